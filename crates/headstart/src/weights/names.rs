//! Cleans up the names that training programs leave on weights: wrappers' prefixes, containers.

use super::state_dict::StateDict;

/// Containers of weights, the first one present wins; the averaged weights first, as in timm.
const CONTAINERS: [&str; 4] = ["state_dict_ema", "model_ema", "state_dict", "model"];

/// Prefixes of DataParallel, `torch.compile`, Lightning, and of containers flattened into names.
const PREFIXES: [&str; 7] =
    ["module.", "_orig_mod.", "model.", "state_dict_ema.", "model_ema.", "state_dict.", "ema_model."];

/// Counts updates in `torch.optim.swa_utils.AveragedModel`; the one key beside its `module.`.
const AVERAGED: &str = "n_averaged";

/// Chooses the key of a checkpoint under which the weights are.
pub fn pick_container<'a>(keys: &[&'a str]) -> Option<&'a str> {
    CONTAINERS.iter().find_map(|wanted| keys.iter().find(|key| key == &wanted).copied())
}

/// Strips each known prefix that *all* names carry, again and again; says so in the notes.
pub fn strip_prefixes(dict: &mut StateDict) {
    if dict.contains(AVERAGED) && dict.names().any(|name| name.starts_with("module.")) {
        dict.remove(AVERAGED);
        dict.notes.push(format!("left out `{AVERAGED}`: a counter of the averaging"));
    }
    while let Some(prefix) =
        PREFIXES.iter().find(|prefix| !dict.is_empty() && dict.names().all(|name| name.starts_with(**prefix)))
    {
        dict.rename(|name| name[prefix.len()..].to_string());
        dict.notes.push(format!("stripped the prefix `{prefix}` from every name"));
    }
}

/// Gives the layers of a DenseNet their present names: torchvision's files still say `norm.1`
/// where its modules say `norm1` (`_load_state_dict` in its `densenet.py`).
pub fn modernize_densenet(dict: &mut StateDict) {
    let modern = |name: &str| {
        if !name.contains(".denselayer") {
            return name.to_string();
        }
        ["norm", "conv"].iter().fold(name.to_string(), |name, layer| {
            name.replace(&format!(".{layer}.1."), &format!(".{layer}1."))
                .replace(&format!(".{layer}.2."), &format!(".{layer}2."))
        })
    };
    if dict.names().any(|name| modern(name) != name) {
        dict.rename(modern);
        dict.notes.push("wrote `norm1` for the `norm.1` of old DenseNet files, and so on".into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_dict::Entry;
    use super::*;

    fn dict(names: &[&str]) -> StateDict {
        let mut dict = StateDict::new("");
        for name in names {
            dict.insert(*name, Entry::from_f32(&[], &[1.0]));
        }
        dict
    }

    fn stripped(names: &[&str]) -> (Vec<String>, usize) {
        let mut dict = dict(names);
        strip_prefixes(&mut dict);
        (dict.names().map(String::from).collect(), dict.notes.len())
    }

    #[test]
    fn a_prefix_goes_only_if_all_names_have_it() {
        assert_eq!(stripped(&["module.a", "module.b"]), (vec!["a".into(), "b".into()], 1));
        assert_eq!(stripped(&["_orig_mod.module.model.a"]), (vec!["a".into()], 3));
        assert_eq!(stripped(&["model.a", "head.b"]), (vec!["model.a".into(), "head.b".into()], 0));
        assert_eq!(stripped(&["n_averaged", "module.a"]), (vec!["a".into()], 2));
        assert_eq!(stripped(&[]), (vec![], 0));
    }

    #[test]
    fn old_densenet_files_get_present_names() {
        let mut old = dict(&["features.denseblock1.denselayer2.norm.1.weight", "features.norm0.bias"]);
        modernize_densenet(&mut old);
        let names: Vec<_> = old.names().collect();
        assert_eq!(names, ["features.denseblock1.denselayer2.norm1.weight", "features.norm0.bias"]);
        assert_eq!(old.notes.len(), 1);
    }

    #[test]
    fn averaged_weights_are_preferred() {
        assert_eq!(pick_container(&["epoch", "state_dict", "state_dict_ema"]), Some("state_dict_ema"));
        assert_eq!(pick_container(&["model", "optimizer"]), Some("model"));
        assert_eq!(pick_container(&["net"]), None);
    }
}

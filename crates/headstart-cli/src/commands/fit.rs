//! `headstart fit` and `headstart demo`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use headstart::clip::HeadPlan;
use headstart::device::describe;
use headstart::error::{Error, Result};
use headstart::models::spec::InputSpec;
use headstart::session::{self, Report, Request, Selection};
use headstart::sources::{Backbone, TextWish, Wanted};
use headstart::synth::write_flowers;
use headstart::task::TaskSpec;
use headstart::train::Recipe;
use headstart_web::page;
use serde_json::json;

use super::{Output, advise};
use crate::args::{Demo, Fit, Lr};
use crate::render::error;
use crate::render::progress::Bars;
use crate::render::scores;

pub fn fit(a: &Fit, io: Output) -> Result<ExitCode> {
    headstart::catch_stop_signals();
    if !a.data.exists() {
        return Err(Error::NotFound { path: a.data.clone() });
    }
    let mut bars = Bars::new(io.quiet);
    let mut wanted = Wanted::from(&a.model);
    let auto = a.recipe == "auto";
    let named = if auto { None } else { Some(Recipe::open(&a.recipe)?) };
    let mut head = a.head.clone();
    if let Some(recipe) = &named {
        // A wrong option shows before anything is downloaded.
        head = Some(adjust(recipe.clone(), a)?.head);
    }
    if head.is_some_and(|head| HeadPlan::is_zero_shot(&head)) {
        wanted.text = TextWish::Needed;
    }
    let device = a.device.open(io)?;
    let backbone = match &named {
        Some(recipe) if !recipe.pretrained => Backbone::blank(&wanted)?,
        _ => Backbone::open(&wanted, &mut bars)?,
    };
    let backbone = backbone.on(&device);
    let out = a.out.clone().unwrap_or_else(|| default_out(&a.data, &backbone, &a.recipe));
    let photos = Selection {
        data: a.data.clone(),
        task: TaskSpec::from(&a.task),
        val_share: a.val_share,
        seed: a.seed.unwrap_or(named.as_ref().map_or(0, |recipe| recipe.seed)),
        split: Some(out.join("split.csv")),
        strict: a.strict,
        exclude: a.exclude.clone(),
        few: a.labels.few(),
        unlabeled: a.labels.unlabeled(),
    };
    let (recipe, advice, opened) = match named {
        Some(recipe) => (recipe, None, None),
        None => {
            let (recipe, advice, opened) = advise::choose(a, &photos, &backbone, &out, &mut bars)?;
            (recipe, Some(advice), opened)
        }
    };
    let mut recipe = adjust(recipe, a)?;
    if a.explain {
        recipe.resolve(&backbone.input);
        io.show(|| json!(recipe), || println!("{}", recipe.to_toml()));
        return Ok(ExitCode::SUCCESS);
    }
    let request = Request {
        photos,
        opened,
        recipe,
        freeze: a.freeze.clone(),
        out,
        resume: a.resume,
        checkpoint_every: every(a.checkpoint_minutes),
        advice,
    };
    finish(&session::run(request, &backbone, &mut bars)?, &backbone, io)
}

/// Applies the options that change a recipe.
fn adjust(mut recipe: Recipe, a: &Fit) -> Result<Recipe> {
    if let Some(head) = &a.head {
        recipe.head.clone_from(head);
    }
    recipe.seed = a.seed.unwrap_or(recipe.seed);
    recipe.batch_size = a.batch_size.unwrap_or(recipe.batch_size);
    recipe.views = a.views.unwrap_or(recipe.views);
    recipe.precision = a.precision.unwrap_or(recipe.precision);
    if let (Some(epochs), Some(phase)) = (a.epochs, recipe.phases.last_mut()) {
        phase.epochs = epochs;
    }
    match (a.lr, recipe.phases.last_mut()) {
        (Some(Lr::Rate(lr)), _) => session::set_rate(&mut recipe, lr),
        (Some(Lr::Find), Some(phase)) => phase.lr_find = true,
        _ => {}
    }
    recipe.check("the recipe with the options given")?;
    Ok(recipe)
}

pub fn demo(a: &Demo, io: Output) -> Result<ExitCode> {
    headstart::catch_stop_signals();
    let pictures = a.out.join("pictures");
    if !io.quiet {
        eprintln!("drawing 5 species of flowers into `{}`", pictures.display());
    }
    std::fs::create_dir_all(&a.out).map_err(Error::write(&a.out))?;
    write_flowers(&pictures, 100, 40, a.seed, 128)?;
    let mut recipe = Recipe::open("demo")?;
    recipe.seed = a.seed;
    let mut bars = Bars::new(io.quiet);
    let backbone = Backbone::open(&Wanted::default(), &mut bars)?;
    let request = Request {
        photos: Selection {
            task: TaskSpec::classify(),
            seed: a.seed,
            split: Some(a.out.join("split.csv")),
            strict: true,
            ..Selection::of(&pictures)
        },
        opened: None,
        recipe,
        freeze: vec![],
        out: a.out.clone(),
        resume: false,
        checkpoint_every: None,
        advice: None,
    };
    finish(&session::run(request, &backbone, &mut bars)?, &backbone, io)
}

/// Minutes between two checkpoints; 0 is none within an epoch.
fn every(minutes: f64) -> Option<Duration> {
    (minutes > 0.0).then(|| Duration::from_secs_f64(60.0 * minutes))
}

/// Names the run folder after what is run.
fn default_out(data: &Path, backbone: &Backbone, recipe: &str) -> PathBuf {
    let stem = |p: &Path| p.file_stem().map_or_else(|| "run".into(), |s| s.to_string_lossy().into_owned());
    let name = format!("{}-{}-{}", stem(data), backbone.row.name, stem(Path::new(recipe)));
    PathBuf::from("runs").join(name)
}

/// Writes pictures and page, and says how it went.
fn finish(report: &Report, backbone: &Backbone, io: Output) -> Result<ExitCode> {
    page::write(report, &origin(backbone))?;
    let best = &report.history[report.best_epoch];
    let document = || {
        let mut all = report.scores.to_json();
        all["out"] = json!(report.out);
        all["bundle"] = json!(report.out.join("bundle"));
        all["model"] = json!(backbone.row.name);
        all["device"] = json!(describe(backbone.device()));
        all["best_epoch"] = json!(report.best_epoch + 1);
        all["epochs"] = json!(report.history.len());
        all["train_pictures"] = json!(report.pictures.0);
        all["unreadable"] = report
            .unreadable
            .iter()
            .map(|u| json!({"path": u.path, "reason": u.reason}))
            .collect::<Vec<_>>()
            .into();
        all["tensors_equal_to_source"] = json!(report.frozen);
        all["excluded"] = json!(report.evidence.excluded);
        all["audit"] = json!(report.evidence.audit.findings);
        all["failure"] = json!(report.failure.as_ref().map(ToString::to_string));
        all["notes"] = json!(report.notes);
        all["seconds"] = json!(report.seconds);
        all
    };
    io.show(document, || {
        let (name, value, interval) = report.scores.headline();
        let interval = interval.map_or(String::new(), |(l, h)| format!(" (95 % interval {l:.3}–{h:.3})"));
        println!(
            "{name} {value:.4}{interval} on {} validation photos, from epoch {} `{}`",
            report.pictures.1,
            report.best_epoch + 1,
            best.phase_name
        );
        scores::print(&report.scores);
        for bad in &report.unreadable {
            println!("left out `{}`: {}", bad.path.display(), bad.reason);
        }
        println!("{} tensors are bit for bit those of {}", report.frozen, origin(backbone));
        println!(
            "{:.1} s; bundle in `{}`, page in `{}`",
            report.seconds,
            report.out.join("bundle").display(),
            report.out.join("report.html").display()
        );
    });
    let Some(failure) = &report.failure else { return Ok(ExitCode::SUCCESS) };
    // The bundle of the best epoch is there, but the plan was not carried out.
    error::show(failure, false);
    Ok(ExitCode::from(2))
}

fn origin(backbone: &Backbone) -> String {
    let InputSpec { size, .. } = backbone.input;
    format!("{} at {size} px", backbone.origin)
}

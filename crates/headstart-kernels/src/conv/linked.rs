//! The micro-kernel of linked sums as text, with the intrinsics of an instruction set put in.

/// Makes `linked_of`, for `M` rows and `V` vectors of `$lanes`. Of the panel, what lies `$ahead` floats further is asked for, unless 0.
macro_rules! linked_sums {
    (
        $features:literal, $lanes:literal, $ahead:literal, $zero:ident, $load:ident, $store:ident, $set:ident,
        $add:ident, $fmadd:ident
    ) => {
        #[target_feature(enable = $features)]
        unsafe fn linked_of<const M: usize, const V: usize>(t: &Linked) {
            // SAFETY: the pointers are valid as `Linked` describes.
            unsafe {
                if t.written == M {
                    for r in 0..M {
                        let y = t.y.wrapping_add(*t.at.add(r));
                        for v in 0..V {
                            fetch(y.wrapping_add($lanes * v));
                        }
                    }
                }
                let mut acc = [[$zero(); V]; M];
                let mut rows = [std::ptr::null(); M];
                for r in 0..M {
                    rows[r] = t.a.add(r * t.a_row);
                }
                let (mut panel, mut i) = (t.panel, 0);
                for _ in 0..t.depth {
                    let mut w = [$zero(); V];
                    for v in 0..V {
                        w[v] = $load(panel.add($lanes * v));
                        if $ahead > 0 {
                            fetch(panel.wrapping_add($lanes * v + $ahead));
                        }
                    }
                    for r in 0..M {
                        let x = $set(*rows[r].add(i));
                        for v in 0..V {
                            acc[r][v] = $fmadd(x, w[v], acc[r][v]);
                        }
                    }
                    panel = panel.add($lanes * V);
                    i += t.a_step;
                }

                if !t.keep.is_null() {
                    each_row!(M, R, {
                        for v in 0..V {
                            let at = $lanes * (R * V + v);
                            let mut sum = acc[R][v];
                            if !t.plus.is_null() {
                                sum = $add(sum, $load(t.plus.add(at)));
                            }
                            $store(t.keep.add(at), sum);
                        }
                    });
                }
                if t.written == 0 {
                    return;
                }
                let mut bias = [$zero(); V];
                if !t.bias.is_null() {
                    for v in 0..V {
                        bias[v] = $load(t.bias.add($lanes * v));
                    }
                }
                let (low, high) = limits(t.act);
                let (low, high) = ($set(low), $set(high));
                each_row!(M, R, {
                    if R < t.written {
                        let at = *t.at.add(R);
                        for v in 0..V {
                            let mut sum = $add(acc[R][v], $load(t.also.add($lanes * (R * V + v))));
                            sum = $add(sum, bias[v]);
                            if !t.residual.is_null() {
                                sum = $add(sum, $load(t.residual.add(at + $lanes * v)));
                            }
                            $store(t.y.add(at + $lanes * v), clamp(sum, low, high));
                        }
                    }
                });
            }
        }
    };
}

pub(super) use linked_sums;

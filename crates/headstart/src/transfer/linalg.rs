//! The little linear algebra the scores need: a symmetric eigenproblem, a singular value decomposition made of it,
//! and Cholesky's factorisation. Doubles, row-major.

use rayon::prelude::*;

/// The thin singular value decomposition of features, without the right vectors: `U` and the squared singular values.
#[derive(Clone, Debug)]
pub struct Decomposition {
    /// Pictures.
    pub n: usize,
    /// Numbers a picture.
    pub width: usize,
    /// Squared singular values above rounding, largest first.
    pub squares: Vec<f64>,
    /// Left singular vectors, `[squares.len(), n]`, one a row.
    pub left: Vec<f64>,
}

impl Decomposition {
    /// Decomposes features `[n, width]`.
    ///
    /// By the eigenproblem of the smaller of `FᵀF` and `FFᵀ`: singular values below 1e-7 of the largest are lost, which
    /// is far below what 32-bit features can say.
    pub fn new(features: &[f32], width: usize) -> Self {
        let n = features.len() / width;
        let rows: Vec<f64> = features.iter().map(|x| f64::from(*x)).collect();
        let columns = transpose(&rows, n, width);
        let tall = n > width;
        let (values, vectors) = match tall {
            true => symmetric_eigen(gram(&columns, width, n), width),
            false => symmetric_eigen(gram(&rows, n, width), n),
        };
        let largest = values.iter().copied().fold(0.0, f64::max);
        let side = values.len();
        let kept: Vec<usize> = (0..side).rev().filter(|i| values[*i] > largest * 1e-13).collect();
        let left: Vec<f64> = kept
            .par_iter()
            .flat_map_iter(|i| {
                let v = &vectors[i * side..(i + 1) * side];
                let scale = 1.0 / values[*i].sqrt();
                let u: Vec<f64> = match tall {
                    true => rows.chunks_exact(width).map(|row| dot(row, v) * scale).collect(),
                    false => v.to_vec(),
                };
                u
            })
            .collect();
        let squares = kept.iter().map(|i| values[*i]).collect();
        Self { n, width, squares, left }
    }

    /// Returns `Uᵀt` for the indicator `t` of a class.
    pub fn project(&self, labels: &[usize], class: usize) -> Vec<f64> {
        let sum = |u: &[f64]| u.iter().zip(labels).filter(|(_, l)| **l == class).map(|(x, _)| x).sum();
        self.left.chunks_exact(self.n).map(sum).collect()
    }
}

/// The sum of products.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight running sums, so that the order of addition is fixed and the loop still vectorises.
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn transpose(rows: &[f64], n: usize, width: usize) -> Vec<f64> {
    let mut out = vec![0.0; rows.len()];
    for i in 0..n {
        for j in 0..width {
            out[j * n + i] = rows[i * width + j];
        }
    }
    out
}

/// Products of all pairs of `n` rows of length `width`: `[n, n]`.
pub fn gram(rows: &[f64], n: usize, width: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    out.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, line)| {
        let a = &rows[i * width..(i + 1) * width];
        for (j, x) in line.iter_mut().enumerate().take(i + 1) {
            *x = dot(a, &rows[j * width..(j + 1) * width]);
        }
    });
    for i in 0..n {
        for j in i + 1..n {
            out[i * n + j] = out[j * n + i];
        }
    }
    out
}

/// Factors a symmetric positive definite matrix into `L Lᵀ`; `L` fills the lower triangle. `None` if it is not definite.
pub fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for j in 0..n {
        let (above, below) = a.split_at_mut(j * n + n);
        let row = &mut above[j * n..];
        let pivot = row[j] - dot(&row[..j], &row[..j]);
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        row[j] = pivot.sqrt();
        let row = &row[..=j];
        below.par_chunks_mut(n).for_each(|other| {
            other[j] = (other[j] - dot(&other[..j], &row[..j])) / row[j];
        });
    }
    Some(a)
}

/// Solves `L x = b` in place, for the lower triangle `l` of [`cholesky`].
pub fn solve_lower(l: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        b[i] = (b[i] - dot(&l[i * n..i * n + i], &b[..i])) / l[i * n + i];
    }
}

/// Eigenvalues, ascending up to rounding, and eigenvectors (one a row) of a symmetric matrix `[n, n]`.
///
/// Householder's reduction and the implicit QL algorithm: `tred2` and `tql2` of EISPACK in JAMA's form (public domain),
/// with the vectors as rows so that every inner loop runs along memory.
pub fn symmetric_eigen(mut v: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    if n == 0 {
        return (Vec::new(), Vec::new());
    }
    let (mut d, mut e) = (vec![0.0; n], vec![0.0; n]);
    reduce(&mut v, &mut d, &mut e, n);
    diagonalise(&mut v, &mut d, &mut e, n);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| d[*a].total_cmp(&d[*b]));
    let vectors = order.iter().flat_map(|i| v[i * n..(i + 1) * n].iter().copied()).collect();
    (order.iter().map(|i| d[*i]).collect(), vectors)
}

/// To tridiagonal form: diagonal in `d`, below it in `e`; `v[j · n + k]` is JAMA's `V[k][j]`.
fn reduce(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) {
    for j in 0..n {
        d[j] = v[j * n + n - 1];
    }
    for i in (1..n).rev() {
        let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[j * n + i - 1];
                v[j * n + i] = 0.0;
                v[i * n + j] = 0.0;
            }
        } else {
            for x in &mut d[..i] {
                *x /= scale;
                h += *x * *x;
            }
            let f = d[i - 1];
            let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            e[..i].fill(0.0);
            for j in 0..i {
                let f = d[j];
                v[i * n + j] = f;
                let row = &v[j * n..j * n + i];
                let mut g = e[j] + row[j] * f;
                for k in j + 1..i {
                    g += row[k] * d[k];
                    e[k] += row[k] * f;
                }
                e[j] = g;
            }
            let mut f = 0.0;
            for j in 0..i {
                e[j] /= h;
                f += e[j] * d[j];
            }
            let hh = f / (h + h);
            for j in 0..i {
                e[j] -= hh * d[j];
            }
            for j in 0..i {
                let (f, g) = (d[j], e[j]);
                let row = &mut v[j * n..j * n + i + 1];
                for k in j..i {
                    row[k] -= f * e[k] + g * d[k];
                }
                d[j] = row[i - 1];
                row[i] = 0.0;
            }
        }
        d[i] = h;
    }
    for i in 0..n - 1 {
        v[i * n + n - 1] = v[i * n + i];
        v[i * n + i] = 1.0;
        let h = d[i + 1];
        let (rows, next) = v.split_at_mut((i + 1) * n);
        let next = &mut next[..=i];
        if h != 0.0 {
            for k in 0..=i {
                d[k] = next[k] / h;
            }
            let d = &d[..=i];
            rows.par_chunks_mut(n).for_each(|row| {
                let g = dot(&next[..=i], &row[..=i]);
                row[..=i].iter_mut().zip(d).for_each(|(x, d)| *x -= g * d);
            });
        }
        next.fill(0.0);
    }
    for j in 0..n {
        d[j] = v[j * n + n - 1];
        v[j * n + n - 1] = 0.0;
    }
    v[n * n - 1] = 1.0;
    e[0] = 0.0;
}

/// From tridiagonal to diagonal form.
fn diagonalise(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) {
    e.rotate_left(1);
    e[n - 1] = 0.0;
    let (mut f, mut size) = (0.0, 0.0_f64);
    for l in 0..n {
        size = size.max(d[l].abs() + e[l].abs());
        let small = f64::EPSILON * size;
        let m = (l..n).find(|m| e[*m].abs() <= small).unwrap_or(n - 1);
        while m > l && e[l].abs() > small {
            let g = d[l];
            let p = (d[l + 1] - g) / (2.0 * e[l]);
            let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
            d[l] = e[l] / (p + r);
            d[l + 1] = e[l] * (p + r);
            let dl1 = d[l + 1];
            let h = g - d[l];
            d[l + 2..n].iter_mut().for_each(|x| *x -= h);
            f += h;
            let (mut p, mut c, mut c2, mut c3) = (d[m], 1.0, 1.0, 1.0);
            let (el1, mut s, mut s2) = (e[l + 1], 0.0, 0.0);
            for i in (l..m).rev() {
                (c3, c2, s2) = (c2, c, s);
                let (g, h, r) = (c * e[i], c * p, p.hypot(e[i]));
                e[i + 1] = s * r;
                s = e[i] / r;
                c = p / r;
                p = c * d[i] - s * g;
                d[i + 1] = h + s * (c * g + s * d[i]);
                let (low, high) = v[i * n..(i + 2) * n].split_at_mut(n);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
            }
            p = -s * s2 * c3 * el1 * e[l] / dl1;
            e[l] = s * p;
            d[l] = c * p;
        }
        d[l] += f;
        e[l] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random(n: usize, width: usize) -> Vec<f32> {
        let mut rng = Rng::keyed(&[n as u64, width as u64]);
        (0..n * width).map(|_| rng.normal()).collect()
    }

    #[test]
    fn eigenvectors_give_the_matrix_back() {
        for n in [1, 2, 5, 40] {
            let rows: Vec<f64> = random(n, n + 3).iter().map(|x| f64::from(*x)).collect();
            let a = gram(&rows, n, n + 3);
            let (values, vectors) = symmetric_eigen(a.clone(), n);
            assert!(values.windows(2).all(|w| w[0] <= w[1]));
            for i in 0..n {
                for j in 0..n {
                    let back: f64 = (0..n).map(|k| values[k] * vectors[k * n + i] * vectors[k * n + j]).sum();
                    assert!((back - a[i * n + j]).abs() < 1e-9, "{n}: {back} {}", a[i * n + j]);
                }
            }
        }
        assert!(symmetric_eigen(vec![0.0; 9], 3).0.iter().all(|x| *x == 0.0));
    }

    #[test]
    fn left_vectors_are_orthonormal_whatever_the_shape() {
        for (n, width) in [(30, 7), (7, 30), (9, 9)] {
            let parts = Decomposition::new(&random(n, width), width);
            assert_eq!(parts.squares.len(), n.min(width));
            let products = gram(&parts.left, parts.squares.len(), n);
            for (i, x) in products.iter().enumerate() {
                let expected = if i % (parts.squares.len() + 1) == 0 { 1.0 } else { 0.0 };
                assert!((x - expected).abs() < 1e-8, "{x}");
            }
        }
    }

    #[test]
    fn cholesky_solves_and_refuses_what_is_not_definite() {
        let l = cholesky(vec![4.0, 2.0, 2.0, 10.0], 2).unwrap();
        let mut b = [2.0, 7.0];
        solve_lower(&l, 2, &mut b);
        assert_eq!(b, [1.0, 2.0]);
        assert!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
    }
}

//! How the examples take the time.

use std::time::Instant;

/// Seconds of the quickest run; of one thread, the mean CPU time, which other programs disturb less.
pub fn best(mut run: impl FnMut()) -> f64 {
    run();
    let (start, cpu_start, mut best) = (Instant::now(), cpu_seconds(), f64::MAX);
    let mut runs = 0;
    while runs < 5 || start.elapsed().as_secs_f64() < 0.25 {
        let run_start = Instant::now();
        run();
        best = best.min(run_start.elapsed().as_secs_f64());
        runs += 1;
    }
    match (headstart_kernels::threads::threads(), cpu_start, cpu_seconds()) {
        (1, Some(start), Some(end)) => (end - start) / f64::from(runs),
        _ => best,
    }
}

/// CPU time of this thread, on Linux.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(stat.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

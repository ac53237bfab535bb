//! Macros that make the number of a tile's rows a constant of its micro-kernel.

/// Calls `$kernel` with the number of rows, 1 to 14 (or to 6), then the number of vectors, as constants.
macro_rules! with_rows {
    ($m:expr, $kernel:ident, $vectors:literal, $arg:expr) => {
        with_rows!(@ $m, $kernel, $vectors, $arg, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    ($m:expr, $kernel:ident, $vectors:literal, $arg:expr, up to 6) => {
        with_rows!(@ $m, $kernel, $vectors, $arg, 1 2 3 4 5 6)
    };
    (@ $m:expr, $kernel:ident, $vectors:literal, $arg:expr, $($n:literal)*) => {
        match $m {
            $($n => $kernel::<$n, $vectors>($arg),)*
            _ => unreachable!("a tile has no {} rows", $m),
        }
    };
}

/// Repeats `$body` for each of at most 14 rows, `$r` being a constant. A loop would not be unrolled where its body is
/// long, and accumulators indexed at run time live in memory: a third of the speed.
macro_rules! each_row {
    ($rows:ident, $r:ident, $body:block) => {
        each_row!(@ $rows, $r, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    (@ $rows:ident, $r:ident, $body:block, $($n:literal)*) => {
        $(if $n < $rows {
            const $r: usize = $n;
            $body
        })*
    };
}

pub(crate) use {each_row, with_rows};

//! Macros that make the number of a tile's rows a constant of its micro-kernel.

/// Calls `$kernel` with the number of rows, then the number of vectors, as constants.
macro_rules! with_rows {
    ($m:expr, $kernel:ident, $vectors:literal, $arg:expr) => {
        match $m {
            1 => $kernel::<1, $vectors>($arg),
            2 => $kernel::<2, $vectors>($arg),
            3 => $kernel::<3, $vectors>($arg),
            4 => $kernel::<4, $vectors>($arg),
            5 => $kernel::<5, $vectors>($arg),
            6 => $kernel::<6, $vectors>($arg),
            7 => $kernel::<7, $vectors>($arg),
            8 => $kernel::<8, $vectors>($arg),
            9 => $kernel::<9, $vectors>($arg),
            10 => $kernel::<10, $vectors>($arg),
            11 => $kernel::<11, $vectors>($arg),
            12 => $kernel::<12, $vectors>($arg),
            13 => $kernel::<13, $vectors>($arg),
            14 => $kernel::<14, $vectors>($arg),
            _ => unreachable!("a tile has 1 to 14 rows, not {}", $m),
        }
    };
}

/// Repeats `$body` for each row, `$r` being a constant: accumulators indexed at run time would live in
/// memory, and a long loop is not unrolled.
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

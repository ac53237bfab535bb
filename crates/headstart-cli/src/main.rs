//! The `headstart` command: parse, run, render the error, exit.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod render;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: headstart::CacheLines = headstart::CacheLines;

fn main() -> ExitCode {
    headstart::prepare_process();
    let args = args::Args::parse();
    match commands::run(&args) {
        Ok(code) => code,
        Err(error) => {
            render::error::show(&error, args.json);
            ExitCode::from(2)
        }
    }
}

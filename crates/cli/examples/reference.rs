//! Prints the reference of the command line, for `cargo xtask generate`.

fn main() {
    print!("{}", nullius_cli::reference_markdown());
}

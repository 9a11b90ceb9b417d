//! Writes what the attack cases send as the first corpus of each target.

use std::{fs, io, path::Path};

use egret_attack::seeds::Seeds;

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = Seeds::corpus().map_err(io::Error::other)?;
    let Seeds { connections, targets, hellos } = seeds;
    for (target, seeds) in [("gate", connections), ("target", targets), ("hello", hellos)] {
        let corpus = here.join("corpus").join(target);
        fs::create_dir_all(&corpus)?;
        for (number, bytes) in seeds.iter().enumerate() {
            fs::write(corpus.join(format!("case-{number}")), bytes)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}

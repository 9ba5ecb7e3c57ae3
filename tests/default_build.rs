//! A default build of the library compiles no C and stays small: read from the tree of its dependencies.
use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use serde_json::Value;

const MOST_CRATES: usize = 60;

/// Crates that compile C, look for a C library, or make bindings to one.
const BUILD_C: &[&str] = &[
    "cc",
    "cmake",
    "pkg-config",
    "bindgen",
    "clang-sys",
    "vcpkg",
    "autotools",
    "nasm-rs",
    "system-deps",
    "cxx-build",
];

#[test]
fn a_default_build_has_no_c_and_few_crates() {
    let crates = crates();
    println!("a default build of the library compiles {} crates", crates.len());
    for package in &crates {
        let name = package.split(' ').next().unwrap();
        assert!(!BUILD_C.contains(&name), "{name} compiles or binds C: choose a crate in Rust instead");
        assert!(
            !name.ends_with("-sys"),
            "{name} is a binding to a C library: choose a crate in Rust instead"
        );
    }
    for package in metadata()["packages"].as_array().unwrap() {
        let is = format!("{} v{}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        assert!(!crates.contains(&is) || package["links"].is_null(), "{is} links a native library");
    }
    assert!(
        crates.len() < MOST_CRATES,
        "{} crates, below {MOST_CRATES} is the rule: {crates:#?}",
        crates.len()
    );
}

/// "name vversion" of every crate that `cargo build --package milena` compiles here, milena not counted.
fn crates() -> BTreeSet<String> {
    let args = [
        "tree",
        "--locked",
        "--package",
        "milena",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let tree = cargo(&args);
    let two_words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    tree.lines()
        .map(two_words)
        .filter(|package| !package.starts_with("milena ") && !package.is_empty())
        .collect()
}

fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--locked", "--format-version", "1"])).unwrap()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

//! The public surface, one item a line, against `testdata/public-api.txt`: no item comes, goes or changes unseen.
//!
//! After a change that is meant: `UPDATE_PUBLIC_API=1 cargo test --test public_api`, and commit the file with it.
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

const LIST: &str = "testdata/public-api.txt";

#[test]
fn the_public_surface_is_the_one_on_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let surface: String = surface().iter().map(|item| format!("{item}\n")).collect();
    let list = root.join(LIST);
    if env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(&list, &surface).unwrap();
    }
    let recorded = fs::read_to_string(&list).unwrap_or_default();
    let (now, before) = (lines(&surface), lines(&recorded));
    let gone = before.difference(&now).map(|item| format!("- {item}\n"));
    let come = now.difference(&before).map(|item| format!("+ {item}\n"));
    let changes: String = gone.chain(come).collect();
    assert!(
        changes.is_empty(),
        "the public surface differs from {LIST}:\n{changes}If that is meant: UPDATE_PUBLIC_API=1 cargo test --test public_api"
    );
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// Asks rustdoc for its JSON. Stable rustdoc gives it away when told that it may use unstable options; that setting would
/// make Cargo build dependencies again, so this build has a folder of its own.
fn surface() -> Vec<String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("public-api");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["rustdoc", "--quiet", "--lib", "--package", "milena", "--all-features", "--target-dir"])
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format", "json", "--cap-lints", "allow"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTDOCFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "rustdoc: {}", String::from_utf8_lossy(&output.stderr));
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/milena.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .unwrap();
    api.items().map(ToString::to_string).filter(|item| !is_of_a_message(item)).collect()
}

/// Every Kafka message is a `Request` in the same way: one line for the trait says it, not five hundred.
fn is_of_a_message(item: &str) -> bool {
    item.contains("kafka_protocol::messages::") && !(item.starts_with("pub ") && item.contains("milena::"))
}

//! What fuzzing has found, made short and described.

use fuzz::manifests;

/// YAML ends a line where a carriage return stands alone, files are counted by their line feeds: a fault may seem to lie
/// behind the end, and what stands behind it is read all the same.
#[test]
fn b17_a_carriage_return_alone_hides_nothing() {
    manifests::run(b"0a: [b: \r\r\r\r c: d]: e");
    manifests::run(b"0kind: Node\r\rmetadata: {name: n1}}\r");
}

//! The tree against the simplest model of one: a sorted list of paths and values.

use proptest::prelude::*;
use std::collections::BTreeMap;
use xenstored::path::Path;
use xenstored::permission::DomainId;
use xenstored::tree::{Operation, Tree};

type Model = BTreeMap<String, Vec<u8>>;

fn operation() -> impl Strategy<Value = Operation> {
    let path = "/[ab](/[abc]){0,3}".prop_map(|text| Path::parse(&text, DomainId::CONTROL).unwrap());
    (path, 0_u8..3, any::<u8>()).prop_map(|(path, kind, value)| match kind {
        0 => Operation::Write(path, [value].into()),
        1 => Operation::MakeDirectory(path),
        _ => Operation::Remove(path),
    })
}

fn apply(model: &mut Model, operation: &Operation) {
    match operation {
        Operation::Write(path, _) | Operation::MakeDirectory(path) => {
            for at in path.lineage() {
                model.entry(at.to_owned()).or_default();
            }
            if let Operation::Write(path, value) = operation {
                model.insert(path.as_str().to_owned(), value.to_vec());
            }
        }
        Operation::Remove(path) => {
            let below = format!("{path}/");
            model.retain(|at, _| at != path.as_str() && !at.starts_with(&below));
        }
        Operation::SetPermissions(..) => {}
    }
}

fn dump(tree: &Tree, path: &Path, into: &mut Model) {
    let node = tree.get(path).unwrap();
    into.insert(path.as_str().to_owned(), node.value().to_vec());
    for name in node.child_names() {
        dump(tree, &path.child(name), into);
    }
}

fn contents(tree: &Tree) -> Model {
    let mut model = Model::new();
    dump(tree, &Path::root(), &mut model);
    model
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_its_model_and_so_is_every_snapshot(operations in proptest::collection::vec(operation(), 0..60)) {
        let mut tree = Tree::new();
        let mut model = Model::from([("/".to_owned(), Vec::new())]);
        let mut snapshots = Vec::new();
        for operation in &operations {
            let before = tree.generation();
            let changed = tree.apply(operation, None).is_some();
            prop_assert_eq!(changed, tree.generation() != before);
            apply(&mut model, operation);
            snapshots.push((tree.clone(), model.clone()));
        }
        for (snapshot, model) in snapshots {
            prop_assert_eq!(contents(&snapshot), model);
            prop_assert_eq!(snapshot.check(), Ok(()));
        }
    }
}

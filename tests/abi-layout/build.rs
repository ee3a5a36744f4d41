//! Reads the source of `hypercall-abi` and writes a table of every structure, field and constant in it, each with the
//! C name that its documentation alias gives, and with the size, offset or value that Rust gives it.
//!
//! Reading the source, instead of keeping a list, is what makes forgetting impossible: a structure without a C name is in
//! the table as well, and the test refuses it unless it is excused there by name.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use quote::ToTokens;
use syn::{Attribute, Expr, Field, Fields, ImplItem, Item, ItemConst, ItemStruct, Lit, Meta, Visibility};

fn main() {
    let source = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../hypercall-abi/src");
    println!("cargo::rerun-if-changed={}", source.display());
    let mut table = Table::default();
    table.file(&source.join("lib.rs"), &source, "");
    let output = PathBuf::from(env::var("OUT_DIR").unwrap()).join("table.rs");
    fs::write(output, table.finish()).unwrap();
}

#[derive(Default)]
struct Table {
    structures: String,
    constants: String,
}

impl Table {
    fn file(&mut self, file: &Path, children: &Path, path: &str) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.items(&parsed.items, children, path);
    }

    fn items(&mut self, items: &[Item], children: &Path, path: &str) {
        for item in items {
            match item {
                Item::Mod(module) if !is_test(&module.attrs) => {
                    let name = module.ident.to_string();
                    // A private module's items are public in its parent, by re-export.
                    let inner = if is_public(&module.vis) {
                        join(path, &name)
                    } else {
                        path.to_owned()
                    };
                    match &module.content {
                        Some((_, items)) => self.items(items, &children.join(&name), &inner),
                        None => self.file(
                            &children.join(format!("{name}.rs")),
                            &children.join(&name),
                            &inner,
                        ),
                    }
                }
                Item::Struct(structure) if is_public(&structure.vis) => self.structure(structure, path),
                Item::Const(constant) if is_public(&constant.vis) => self.constant(constant, path),
                Item::Impl(implementation) => {
                    let owner = join(path, &implementation.self_ty.to_token_stream().to_string());
                    for item in &implementation.items {
                        if let ImplItem::Const(constant) = item
                            && let Some(c_name) = alias(&constant.attrs)
                        {
                            // Associated constants are newtypes over the number.
                            let name = join(&owner, &constant.ident.to_string());
                            self.push_constant(&name, &c_name, &format!("hypercall_abi::{name}.0"));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn structure(&mut self, structure: &ItemStruct, path: &str) {
        let name = join(path, &structure.ident.to_string());
        let c_name = alias(&structure.attrs).unwrap_or_default();
        if !has_c_layout(&structure.attrs) {
            // Newtypes and values that never lie in shared memory; the test knows which.
            writeln!(
                self.structures,
                "Structure {{ rust: {name:?}, c: {c_name:?}, plain: false, size: 0, fields: &[] }},"
            )
            .unwrap();
            return;
        }
        let fields = match &structure.fields {
            Fields::Named(fields) => fields
                .named
                .iter()
                .map(|field| field_entry(&name, field))
                .collect::<String>(),
            _ => panic!("{name}: a C structure needs named fields"),
        };
        writeln!(
            self.structures,
            "Structure {{ rust: {name:?}, c: {c_name:?}, plain: true, size: size_of::<hypercall_abi::{name}>(), \
             fields: &[{fields}] }},"
        )
        .unwrap();
    }

    fn constant(&mut self, constant: &ItemConst, path: &str) {
        let name = join(path, &constant.ident.to_string());
        let c_name = alias(&constant.attrs).unwrap_or_default();
        let is_number = matches!(
            constant.ty.to_token_stream().to_string().as_str(),
            "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64"
        );
        if is_number {
            self.push_constant(&name, &c_name, &format!("hypercall_abi::{name}"));
        }
    }

    fn push_constant(&mut self, name: &str, c_name: &str, expression: &str) {
        writeln!(
            self.constants,
            "Constant {{ rust: {name:?}, c: {c_name:?}, value: {expression} as i128 as u64 }},"
        )
        .unwrap();
    }

    fn finish(self) -> String {
        format!(
            "/// Every structure.\npub static STRUCTURES: &[Structure] = &[\n{}];\n\
             /// Every number.\npub static CONSTANTS: &[Constant] = &[\n{}];\n",
            self.structures, self.constants
        )
    }
}

fn field_entry(structure: &str, field: &Field) -> String {
    let name = field.ident.as_ref().unwrap().to_string();
    assert!(
        is_public(&field.vis),
        "{structure}::{name}: fields of ABI structures are public"
    );
    let c_name = alias(&field.attrs).unwrap_or_else(|| {
        if name.starts_with('_') {
            String::new()
        } else {
            name.clone()
        }
    });
    format!(
        "Field {{ rust: {name:?}, c: {c_name:?}, offset: offset_of!(hypercall_abi::{structure}, {name}), \
         size: size_of_field(|whole: &hypercall_abi::{structure}| &whole.{name}) }}, "
    )
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}::{name}")
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg"))
}

fn has_c_layout(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("repr")
            && matches!(&attribute.meta, Meta::List(list) if list.tokens.to_string() == "C")
    })
}

/// The first `#[doc(alias = "...")]`.
fn alias(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| {
        let Meta::List(list) = &attribute.meta else {
            return None;
        };
        if !list.path.is_ident("doc") {
            return None;
        }
        let Ok(Meta::NameValue(pair)) = list.parse_args::<Meta>() else {
            return None;
        };
        match (&pair.path.is_ident("alias"), pair.value) {
            (true, Expr::Lit(literal)) => match literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        }
    })
}

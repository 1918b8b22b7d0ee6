//! A device tree as a list of nodes by path, read by a parser that is not ours.

use fdt::Fdt;
use fdt::nodes::Node;
use fdt::parsing::Panic;
use fdt::parsing::unaligned::UnalignedParser;

type Parser<'a> = (UnalignedParser<'a>, Panic);

/// One node.
#[derive(Debug)]
pub struct Flat {
    pub path: String,
    properties: Vec<(String, Vec<u8>)>,
}

/// All nodes, in the order of the blob.
pub struct Tree(pub Vec<Flat>);

impl Tree {
    pub fn parse(blob: &[u8]) -> Self {
        let fdt = Fdt::new_unaligned(blob).unwrap();
        let mut nodes = Vec::new();
        walk(fdt.find_node("/").unwrap(), String::new(), &mut nodes);
        Self(nodes)
    }

    pub fn find(&self, path: &str) -> Option<&Flat> {
        self.0.iter().find(|node| node.path == path)
    }

    pub fn node(&self, path: &str) -> &Flat {
        self.find(path).unwrap_or_else(|| panic!("no {path}"))
    }

    pub fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Flat> {
        self.0.iter().filter(move |node| {
            let below = node.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
            below.is_some_and(|name| !name.contains('/'))
        })
    }

    pub fn paths(&self) -> Vec<&str> {
        self.0.iter().map(|node| node.path.as_str()).collect()
    }
}

impl Flat {
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
    }

    pub fn value(&self, name: &str) -> &[u8] {
        self.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.path))
    }

    pub fn cells(&self, name: &str) -> Vec<u32> {
        let (cells, rest) = self.value(name).as_chunks::<4>();
        assert!(rest.is_empty());
        cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect()
    }

    pub fn double(&self, name: &str) -> u64 {
        u64::from_be_bytes(self.value(name).try_into().unwrap())
    }

    /// The strings of a list; one for a plain string.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let value = self.value(name).strip_suffix(b"\0").unwrap();
        value.split(|byte| *byte == 0).map(|text| std::str::from_utf8(text).unwrap()).collect()
    }
}

fn walk<'a>(node: Node<'a, Parser<'a>>, path: String, nodes: &mut Vec<Flat>) {
    let properties = node
        .properties()
        .iter()
        .map(|property| (property.name.to_owned(), property.value.to_vec()))
        .collect();
    nodes.push(Flat { path: path.clone(), properties });
    for child in node.children().iter() {
        walk(child, format!("{path}/{}", child.name()), nodes);
    }
}

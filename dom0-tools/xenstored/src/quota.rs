//! What a guest may take of the store. The control domain is not limited.

use std::fmt::Write;

/// The limits on one domain; the names are those of Xen's daemon, so that `xenstore-control quota` reads the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that it owns.
    pub nodes: usize,
    /// Bytes of one node: value, children's names and permissions.
    pub node_size: usize,
    /// Watches on its connection.
    pub watches: usize,
    /// Transactions open at a time.
    pub transactions: usize,
    /// Nodes that one transaction touches, and changes that it makes.
    pub transaction_nodes: usize,
    /// Bytes of paths and values that one transaction touches.
    pub transaction_bytes: usize,
    /// Entries in a node's permission list.
    pub permissions: usize,
    /// Length of a path, within the domain's home.
    pub path_length: usize,
    /// Answers that it has not yet taken, before more requests are read.
    pub outstanding: usize,
    /// Bytes of watch events that it has not yet taken, before its connection counts as broken.
    pub event_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            nodes: 1000,
            node_size: 2048,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            transaction_bytes: 256 << 10,
            permissions: 5,
            path_length: crate::path::RELATIVE_PATH_MAX,
            outstanding: 20,
            event_bytes: 2 << 20,
        }
    }
}

impl Limits {
    /// The limit with this name, for reading and changing.
    pub fn by_name(&mut self, name: &str) -> Option<&mut usize> {
        Some(match name {
            "nodes" => &mut self.nodes,
            "node-size" => &mut self.node_size,
            "watches" => &mut self.watches,
            "transactions" => &mut self.transactions,
            "transaction-nodes" => &mut self.transaction_nodes,
            "transaction-bytes" => &mut self.transaction_bytes,
            "node-permissions" => &mut self.permissions,
            "path-max" => &mut self.path_length,
            "outstanding" => &mut self.outstanding,
            "event-bytes" => &mut self.event_bytes,
            _ => return None,
        })
    }

    /// All limits, one per line.
    pub fn describe(&self) -> String {
        let rows = [
            ("nodes", self.nodes, "nodes per domain"),
            ("node-size", self.node_size, "bytes per node"),
            ("watches", self.watches, "watches per domain"),
            ("transactions", self.transactions, "open transactions per domain"),
            (
                "transaction-nodes",
                self.transaction_nodes,
                "nodes touched per transaction",
            ),
            (
                "transaction-bytes",
                self.transaction_bytes,
                "bytes of paths and values per transaction",
            ),
            (
                "node-permissions",
                self.permissions,
                "permission entries per node",
            ),
            (
                "path-max",
                self.path_length,
                "length of a path within a domain's home",
            ),
            (
                "outstanding",
                self.outstanding,
                "answers not taken before requests wait",
            ),
            (
                "event-bytes",
                self.event_bytes,
                "bytes of events not taken before a connection is broken",
            ),
        ];
        rows.iter()
            .fold(String::new(), |mut text, (name, value, meaning)| {
                let _ = writeln!(text, "{name:<20} {value:>8}  {meaning}");
                text
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_that_is_listed_can_be_changed() {
        let mut limits = Limits::default();
        let names: Vec<String> = limits
            .describe()
            .lines()
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names.len(), 10);
        for name in names {
            *limits.by_name(&name).unwrap() = 3;
        }
        assert_eq!(limits.nodes + limits.event_bytes, 6);
        assert!(limits.by_name("nonsense").is_none());
    }
}

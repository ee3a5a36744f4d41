//! Commands to the daemon itself, as `xenstore-control` sends them.

use crate::hypervisor::Hypervisor;
use crate::permission::parse_domain;
use crate::store::{Store, log};
use crate::wire::{StoreError, split_strings};

const HELP: &str = "check                check the tree against its own book-keeping\n\
                    help                 this list\n\
                    log on|off           write every request to the log\n\
                    memreport            how many nodes, watches and connections there are\n\
                    print <text>         write text to the log\n\
                    quota                the limits on every domain\n\
                    quota <name> <value> change a limit\n\
                    quota <domain>       what a domain has taken\n";

impl<H: Hypervisor> Store<H> {
    /// Carries out a command and returns its text.
    pub(crate) fn control_command(&mut self, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (strings, rest) = split_strings(payload);
        let words: Vec<&str> = strings
            .into_iter()
            .chain((!rest.is_empty()).then_some(rest))
            .map(|word| std::str::from_utf8(word).map_err(|_| StoreError::InvalidArgument))
            .collect::<Result<_, _>>()?;
        let text = match words[..] {
            ["help"] => HELP.to_owned(),
            ["check"] => self.tree.check().map_or_else(|wrong| wrong, |()| "OK".to_owned()),
            ["log", "on"] => self.set_tracing(true),
            ["log", "off"] => self.set_tracing(false),
            ["memreport"] => self.report(),
            ["print", text] => {
                log(&format!("print: {}", text.escape_debug()));
                "OK".to_owned()
            }
            ["quota"] => self.limits.describe(),
            ["quota", domain] => self.taken_by(domain)?,
            ["quota", name, value] => self.set_limit(name, value)?,
            // Handing the open rings over to a newer daemon is not implemented, and is not to be pretended.
            ["live-update", ..] => return Err(StoreError::NotImplemented),
            _ => return Err(StoreError::InvalidArgument),
        };
        Ok(format!("{text}\0").into_bytes())
    }

    fn set_tracing(&mut self, on: bool) -> String {
        self.tracing = on;
        "OK".to_owned()
    }

    fn report(&self) -> String {
        let watches: usize = self.connections.keys().map(|id| self.watches.count(*id)).sum();
        let transactions: usize = self.connections.values().map(|it| it.transactions.len()).sum();
        format!(
            "nodes {}\nwatches {watches}\nconnections {}\ndomains {}\ntransactions {transactions}\n",
            self.tree.node_count(),
            self.connections.len(),
            self.domains.len(),
        )
    }

    fn taken_by(&self, domain: &str) -> Result<String, StoreError> {
        let domain = parse_domain(domain)?;
        let known = self.domains.get(&domain);
        let watches = known.map_or(0, |known| self.watches.count(known.connection));
        let connection = known.and_then(|known| self.connections.get(&known.connection));
        let transactions = connection.map_or(0, |it| it.transactions.len());
        let state = match (known, connection.and_then(|it| it.failure())) {
            (None, _) => "not introduced".to_owned(),
            (Some(_), None) => "connected".to_owned(),
            (Some(_), Some(failure)) => format!("broken: {failure}"),
        };
        let nodes = self.tree.owned_by(domain);
        Ok(format!(
            "nodes {nodes}\nwatches {watches}\ntransactions {transactions}\nconnection {state}\n"
        ))
    }

    fn set_limit(&mut self, name: &str, value: &str) -> Result<String, StoreError> {
        let limit = self.limits.by_name(name).ok_or(StoreError::InvalidArgument)?;
        *limit = value.parse().map_err(|_| StoreError::InvalidArgument)?;
        Ok("OK".to_owned())
    }
}

//! Event channels: both ends of each know each other; tables are in order by themselves.

use hypercall_abi::event_channel::Port;
use machine::Machine;

use super::{Auditor, Violation, holds};

const ENDS: &str = "event channels: both ends name each other";

/// One end of a channel between domains.
pub(super) struct End {
    domain: usize,
    port: Port,
    remote: usize,
    remote_port: Port,
}

impl<M: Machine> Auditor<M> {
    pub(super) fn check_events(&mut self) -> Result<(), Violation> {
        let (domains, ends) = (&self.domains, &mut self.ends);
        ends.clear();
        for (index, domain) in domains.iter().enumerate() {
            let id = domain.id.0;
            let lifecycle = *domain.lifecycle.lock();
            let mut unknown = None;
            let ports =
                domain
                    .events
                    .audit(id, domain.vcpus.len(), &lifecycle, |port, remote, remote_port| {
                        match Self::index_of(domains, remote) {
                            Some(remote) => ends.push(End {
                                domain: index,
                                port,
                                remote,
                                remote_port,
                            }),
                            None => unknown = Some(port),
                        }
                    })?;
            holds!(
                unknown.is_none(),
                ENDS,
                "port {} of d{id} is connected to a domain that never was in the table",
                unknown.unwrap_or(0)
            );
            self.counted.ports += u64::from(ports);
        }
        for end in ends.iter() {
            let back = ends
                .binary_search_by_key(&(end.remote, end.remote_port), |other| (other.domain, other.port))
                .ok()
                .map(|index| (ends[index].remote, ends[index].remote_port));
            let id = |index: usize| domains[index].id.0;
            holds!(
                back == Some((end.domain, end.port)),
                ENDS,
                "port {} of d{} leads to port {} of d{}, which leads {}",
                end.port,
                id(end.domain),
                end.remote_port,
                id(end.remote),
                match back {
                    None => "nowhere".into(),
                    Some((domain, port)) => alloc::format!("to port {port} of d{}", id(domain)),
                }
            );
        }
        Ok(())
    }
}

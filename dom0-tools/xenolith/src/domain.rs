//! Domains as users see them: by name, with a state.

use crate::failure::{Failure, Result};
use crate::machine::Machine;
use crate::record::{Phase, Record};
use crate::store_tree::domain_path;
use crate::uuid::Uuid;
use control::{DomainId, DomainInfo, ShutdownReason};

/// The control domain's name, unless the store knows better.
const CONTROL_NAME: &str = "Domain-0";

/// A domain.
pub struct Domain {
    /// What the hypervisor knows.
    pub info: DomainInfo,
    /// Its name.
    pub name: String,
    /// What the tools remember, if they made it.
    pub record: Option<Record>,
}

impl Domain {
    /// Its number.
    pub fn id(&self) -> DomainId {
        self.info.domain
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        Uuid(self.info.handle)
    }

    /// Its state, in a word.
    pub fn state(&self) -> &'static str {
        if self
            .record
            .as_ref()
            .is_some_and(|record| record.phase == Phase::Building)
        {
            return "building";
        }
        match &self.info {
            DomainInfo { dying: true, .. } => "dying",
            DomainInfo {
                shutdown: Some(ShutdownReason::Crash),
                ..
            } => "crashed",
            DomainInfo {
                shutdown: Some(_), ..
            } => "shutdown",
            DomainInfo { paused: true, .. } => "paused",
            _ => "running",
        }
    }

    /// Why it stopped, if it did.
    pub fn reason(&self) -> Option<&'static str> {
        self.info.shutdown.map(reason_name)
    }

    /// Virtual CPUs it has.
    pub fn max_vcpus(&self) -> u32 {
        self.info.max_vcpu_id.map_or(0, |highest| highest + 1)
    }
}

/// A reason in a word.
pub fn reason_name(reason: ShutdownReason) -> &'static str {
    match reason {
        ShutdownReason::PowerOff => "poweroff",
        ShutdownReason::Reboot => "reboot",
        ShutdownReason::Suspend => "suspend",
        ShutdownReason::Crash => "crash",
        ShutdownReason::Watchdog => "watchdog",
        ShutdownReason::SoftReset => "soft-reset",
        ShutdownReason::Other(_) => "other",
    }
}

/// All domains, the control domain first.
pub fn all(machine: &mut Machine) -> Result<Vec<Domain>> {
    let records = machine.records.all()?;
    let infos = machine.hypervisor.domains()?;
    infos
        .into_iter()
        .map(|info| describe(machine, info, &records))
        .collect()
}

/// The domain with this name or number.
pub fn find(machine: &mut Machine, wanted: &str) -> Result<Domain> {
    let number = wanted.parse().ok().map(DomainId);
    let found = all(machine)?.into_iter().find(|domain| match number {
        Some(number) => domain.id() == number,
        None => domain.name == wanted,
    });
    found.ok_or_else(|| {
        Failure::new(format!("there is no domain `{wanted}`"))
            .advise("`xenolith list` shows those that there are")
    })
}

/// As [`find`], for what cannot be done to the control domain.
pub fn find_guest(machine: &mut Machine, wanted: &str, action: &str) -> Result<Domain> {
    let domain = find(machine, wanted)?;
    match domain.id() {
        DomainId::CONTROL => Err(
            Failure::new(format!("the control domain cannot be {action} from here"))
                .advise("use its own commands: poweroff, reboot"),
        ),
        _ => Ok(domain),
    }
}

fn describe(machine: &mut Machine, info: DomainInfo, records: &[Record]) -> Result<Domain> {
    let record = records
        .iter()
        .find(|record| record.uuid.0 == info.handle && info.domain != DomainId::CONTROL);
    let stored = machine
        .store
        .read(&format!("{}/name", domain_path(info.domain)))?;
    let name = stored
        .filter(|name| !name.is_empty())
        .or_else(|| record.map(|record| record.config.name.clone()));
    let name = name.unwrap_or_else(|| match info.domain {
        DomainId::CONTROL => CONTROL_NAME.to_owned(),
        _ => "(unnamed)".to_owned(),
    });
    Ok(Domain {
        info,
        name,
        record: record.cloned(),
    })
}

//! The store's entries about a guest: what its kernel, the daemons and the device backends read.
//!
//! Names and shapes are Xen's. Guest-owned nodes are those that frontends write to; the rest the guest may read.

use crate::device::{PreparedDisk, PreparedInterface};
use crate::record::Record;
use builder::Built;
use control::DomainId;
use hypercall_abi::io::xenbus::State;
use store_client::{Access, Permission, Result, Store};

/// Most bytes of console output that the daemon keeps for a guest.
const CONSOLE_LIMIT: u32 = 1 << 20;
/// Nodes that the guest may write to.
const GUEST_OWNED: [&str; 9] = [
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

/// Where the control domain's entries are.
pub const CONTROL_HOME: &str = "/local/domain/0";

/// Where a domain's entries are.
pub fn domain_path(domain: DomainId) -> String {
    format!("/local/domain/{domain}")
}

/// Where the backends of a kind (`vbd`, `vif`) for a domain are.
pub fn backends_path(kind: &str, domain: DomainId) -> String {
    format!("{CONTROL_HOME}/backend/{kind}/{domain}")
}

/// Writes everything about a guest, devices included. For use in a transaction.
pub fn write(
    store: &mut Store,
    record: &Record,
    built: &Built,
    disks: &[PreparedDisk],
    interfaces: &[PreparedInterface],
) -> Result<()> {
    let guest = built.domain;
    let home = domain_path(guest);
    let vm = format!("/vm/{}", record.uuid);
    let readable = [
        Permission {
            domain: 0,
            access: Access::None,
        },
        Permission {
            domain: guest.0,
            access: Access::Read,
        },
    ];
    let owned = [Permission {
        domain: guest.0,
        access: Access::None,
    }];

    // Left over from an earlier domain of this number, should there be anything.
    store.remove(&home)?;
    for (path, value) in [(&home, ""), (&vm, "")] {
        store.write(path, value)?;
        store.set_permissions(path, &readable)?;
    }
    let config = &record.config;
    write_all(
        store,
        &vm,
        &[("name", config.name.clone()), ("uuid", record.uuid.to_string())],
    )?;
    let mut entries = vec![
        ("vm", vm.clone()),
        ("name", config.name.clone()),
        ("domid", guest.to_string()),
        ("memory/static-max", (config.max_memory * 1024).to_string()),
        ("memory/target", (config.memory * 1024).to_string()),
        ("store/ring-ref", built.store_frame.to_string()),
        ("store/port", built.store_port.0.to_string()),
        (
            "console/backend",
            format!("/local/domain/0/backend/console/{guest}/0"),
        ),
        ("console/backend-id", "0".to_owned()),
        ("console/ring-ref", built.console_frame.to_string()),
        ("console/port", built.console_port.0.to_string()),
        ("console/limit", CONSOLE_LIMIT.to_string()),
        ("console/type", "xenconsoled".to_owned()),
        ("console/output", "pty".to_owned()),
        ("console/tty", String::new()),
        ("control/platform-feature-multiprocessor-suspend", "1".to_owned()),
        ("control/platform-feature-xs_reset_watches", "1".to_owned()),
    ];
    let processors: Vec<(String, &str)> = (0..config.max_vcpus)
        .map(|vcpu| {
            (
                format!("cpu/{vcpu}/availability"),
                if vcpu < config.vcpus { "online" } else { "offline" },
            )
        })
        .collect();
    entries.extend(
        processors
            .iter()
            .map(|(path, value)| (path.as_str(), (*value).to_owned())),
    );
    write_all(store, &home, &entries)?;
    store.make_directory(&format!("{home}/device"))?;
    for node in GUEST_OWNED {
        let path = format!("{home}/{node}");
        store.write(&path, "")?;
        store.set_permissions(&path, &owned)?;
    }
    for disk in disks {
        write_device(
            store,
            guest,
            "vbd",
            &disk.number().to_string(),
            &disk.frontend(),
            &disk.backend(),
        )?;
    }
    for (index, interface) in interfaces.iter().enumerate() {
        let frontend = interface.frontend(index);
        write_device(
            store,
            guest,
            "vif",
            &index.to_string(),
            &frontend,
            &interface.backend(index),
        )?;
    }
    Ok(())
}

/// Entries of a device's end.
pub type Entries = Vec<(&'static str, String)>;

fn write_device(
    store: &mut Store,
    guest: DomainId,
    kind: &str,
    number: &str,
    frontend: &Entries,
    backend: &Entries,
) -> Result<()> {
    let front = format!("{}/device/{kind}/{number}", domain_path(guest));
    let back = format!("{}/{number}", backends_path(kind, guest));
    let permission = |domain: u16, access| Permission { domain, access };

    store.write(&front, "")?;
    store.set_permissions(
        &front,
        &[permission(guest.0, Access::None), permission(0, Access::Read)],
    )?;
    let initialising = ("state", State::Initialising.text().to_owned());
    write_all(
        store,
        &front,
        &[
            ("backend", back.clone()),
            ("backend-id", "0".to_owned()),
            initialising.clone(),
        ],
    )?;
    write_all(store, &front, frontend)?;

    store.write(&back, "")?;
    store.set_permissions(
        &back,
        &[permission(0, Access::None), permission(guest.0, Access::Read)],
    )?;
    let links = [
        ("frontend", front.clone()),
        ("frontend-id", guest.to_string()),
        ("online", "1".to_owned()),
    ];
    write_all(store, &back, &links)?;
    write_all(store, &back, backend)?;
    write_all(store, &back, &[initialising])
}

fn write_all(store: &mut Store, base: &str, entries: &[(&str, String)]) -> Result<()> {
    entries
        .iter()
        .try_for_each(|(path, value)| store.write(&format!("{base}/{path}"), value))
}

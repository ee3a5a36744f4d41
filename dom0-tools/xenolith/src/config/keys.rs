//! Which settings there are, and what to say about others.

use super::syntax::Entry;
use crate::failure::Result;

/// Settings of xl's that mean something we do not offer.
const UNSUPPORTED: &[&str] = &[
    "acpi",
    "apic",
    "bios",
    "blkdev_start",
    "boot",
    "bootloader",
    "bootloader_args",
    "builder",
    "channel",
    "claim_mode",
    "console_ring",
    "cpuid",
    "device_model_args",
    "device_model_version",
    "device_tree",
    "disable_migrate",
    "driver_domain",
    "firmware",
    "firmware_override",
    "gfx_passthru",
    "hap",
    "hdtype",
    "init_seclabel",
    "ioports",
    "iomem",
    "irqs",
    "keymap",
    "localtime",
    "max_event_channels",
    "max_grant_frames",
    "max_grant_version",
    "max_maptrack_frames",
    "memory_hotplug",
    "msr_relaxed",
    "nestedhvm",
    "nodes",
    "nomigrate",
    "numa",
    "on_soft_reset",
    "on_xend_start",
    "on_xend_stop",
    "p9",
    "pae",
    "passthrough",
    "pci",
    "pci_msitranslate",
    "pci_permissive",
    "pci_power_mgmt",
    "pci_seize",
    "pvh",
    "pvshim",
    "rdm",
    "rtc_timeoffset",
    "sdl",
    "seclabel",
    "serial",
    "shadow_memory",
    "soundhw",
    "spice",
    "ssid_label",
    "stdvga",
    "timer_mode",
    "tsc_mode",
    "usb",
    "usbctrl",
    "usbdev",
    "usbdevice",
    "vcpu_affinity",
    "vfb",
    "vga",
    "videoram",
    "viridian",
    "vkb",
    "vnc",
    "vnclisten",
    "vncpasswd",
    "vnuma",
    "vpmu",
    "vsnd",
    "vtpm",
    "vuart",
    "xen_platform_pci",
    "xend_suspend_evtchn_compat",
];

const SUPPORTED: &[&str] = &[
    "cap",
    "cmdline",
    "cpu_weight",
    "cpus",
    "cpus_soft",
    "disk",
    "extra",
    "kernel",
    "maxmem",
    "maxvcpus",
    "memory",
    "name",
    "on_crash",
    "on_poweroff",
    "on_reboot",
    "on_watchdog",
    "pool",
    "ramdisk",
    "root",
    "type",
    "uuid",
    "vcpus",
    "vif",
];

/// Refuses settings that we do not serve, with what to do instead.
pub fn check(entries: &[Entry]) -> Result<()> {
    for Entry { key, place, .. } in entries {
        if SUPPORTED.contains(&key.as_str()) {
            continue;
        }
        if UNSUPPORTED.contains(&key.as_str()) || key.starts_with("spice") || key.starts_with("device_model")
        {
            return Err(place.fail(
                format!("`{key}` is a setting of xl's that xenolith does not support"),
                "remove the line; PVH guests with disk, vif and console are what there is",
            ));
        }
        let nearest = SUPPORTED
            .iter()
            .min_by_key(|known| distance(key, known))
            .filter(|known| distance(key, known) <= 2);
        let expected = match nearest {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("expected one of: {}", SUPPORTED.join(", ")),
        };
        return Err(place.fail(format!("unknown setting `{key}`"), expected));
    }
    Ok(())
}

/// How many letters must be changed, added or removed.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..right.len() {
            let changed = diagonal + usize::from(letter != right[column]);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

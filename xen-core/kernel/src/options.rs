//! The boot command line.

use alloc::string::String;

/// What the boot command line asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The whole line, as the toolstack may ask for it.
    pub line: String,
    /// `dom0_mem=`: bytes for the privileged domain.
    pub control_memory: Option<u64>,
    /// `dom0_max_vcpus=`: its vCPUs.
    pub control_vcpus: Option<u32>,
    /// `noreboot`: switch off rather than restart when the privileged domain ends badly.
    pub no_reboot: bool,
}

impl Options {
    /// Take a command line apart. What is not understood is named in the log and otherwise ignored, so that a line made
    /// for Xen boots.
    pub fn parse(line: &str) -> Self {
        let mut options = Options {
            line: String::from(line),
            control_memory: None,
            control_vcpus: None,
            no_reboot: false,
        };
        for word in line.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "dom0_mem" => {
                    options.control_memory = parse_size(value);
                    if options.control_memory.is_none() {
                        log::warn!("dom0_mem={value}: expected a size such as 1024M or 2G; ignored");
                    }
                }
                "dom0_max_vcpus" => {
                    options.control_vcpus = value.parse().ok().filter(|&count| count > 0);
                    if options.control_vcpus.is_none() {
                        log::warn!("dom0_max_vcpus={value}: expected a number of at least 1; ignored");
                    }
                }
                "noreboot" => options.no_reboot = value.is_empty() || value == "1" || value == "true",
                // The loader's or the machine's.
                "console" | "com1" | "dom0" | "loglvl" | "guest_loglvl" | "console_timestamps" => {}
                _ if word.contains('/') => {}
                _ => log::info!("option '{word}' is not known here and has no effect"),
            }
        }
        options
    }
}

/// A size with Xen's suffixes: B, K, M, G, T; K when there is none. `dom0_mem` may name a maximum or minimum as well
/// ("512M,max:1G"): the first plain size counts.
fn parse_size(text: &str) -> Option<u64> {
    let text = text
        .split(',')
        .find(|part| !part.contains(':'))
        .or_else(|| text.split(':').nth(1))?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "b" => 0,
        "" | "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift).filter(|&size| size != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(parse_size("1024M"), Some(1 << 30));
        assert_eq!(parse_size("2g"), Some(2 << 30));
        assert_eq!(parse_size("512"), Some(512 << 10));
        assert_eq!(parse_size("512M,max:1G"), Some(512 << 20));
        assert_eq!(parse_size("max:1G"), Some(1 << 30));
        assert_eq!(parse_size("lots"), None);
        assert_eq!(parse_size("0"), None);
        assert_eq!(parse_size("99999999999T"), None);
    }

    #[test]
    fn a_line_for_xen_is_understood() {
        let options = Options::parse("dom0=pvh dom0_mem=1024M dom0_max_vcpus=2 console=com1 loglvl=all");
        assert_eq!(options.control_memory, Some(1 << 30));
        assert_eq!(options.control_vcpus, Some(2));
    }
}

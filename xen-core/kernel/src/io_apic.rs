//! The I/O APIC that the privileged domain sees: its own registers, behind which the machine's lines are routed.
//!
//! A pin that the guest unmasks is routed to a processor; when it fires, the guest gets the vector that it programmed.
//! A level-triggered line stays quiet until the guest completes it.

use machine::sync::Lock;
use machine::{LineMode, Machine};

use crate::Kernel;
use crate::domain::VcpuHandle;
use crate::lapic::Command;

/// Where its registers appear.
pub const BASE: u64 = 0xfec0_0000;
const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
/// Lines of the largest one we show.
const MOST_LINES: u32 = 240;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_REQUEST: u64 = 1 << 14;
const ACTIVE_LOW: u64 = 1 << 13;
const LOGICAL: u64 = 1 << 11;
/// Delivery status and remote request are the chip's, not the writer's.
const READ_ONLY: u64 = (1 << 12) | REMOTE_REQUEST;

struct State {
    select: u32,
    pins: alloc::vec::Vec<u64>,
}

/// The I/O APIC.
pub struct IoApic {
    lines: u32,
    state: Lock<State>,
}

impl IoApic {
    /// One with this many lines, all masked.
    pub fn new(lines: u32) -> Self {
        let lines = lines.clamp(1, MOST_LINES);
        IoApic {
            lines,
            state: Lock::new(State {
                select: 0,
                pins: alloc::vec![MASKED; lines as usize],
            }),
        }
    }

    /// How many lines it has.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    fn read_selected(&self) -> u32 {
        let state = self.state.lock();
        match state.select {
            0 | 2 => 0,
            // Version 0x11, and the number of the last line.
            1 => 0x11 | (self.lines.saturating_sub(1) << 16),
            register => {
                let pin = state
                    .pins
                    .get((register.wrapping_sub(0x10) / 2) as usize)
                    .copied()
                    .unwrap_or(0);
                if register >= 0x10 {
                    (pin >> (32 * (register & 1))) as u32
                } else {
                    0
                }
            }
        }
    }
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn io_apic_read(&self, vcpu: &VcpuHandle<M>, offset: u32) -> u64 {
        let Some(io_apic) = &vcpu.domain().io_apic else {
            return u64::MAX;
        };
        match offset {
            SELECT => u64::from(io_apic.state.lock().select),
            WINDOW => u64::from(io_apic.read_selected()),
            _ => u64::from(u32::MAX),
        }
    }

    pub(crate) fn io_apic_write(&self, vcpu: &VcpuHandle<M>, offset: u32, value: u32) {
        let Some(io_apic) = &vcpu.domain().io_apic else {
            return;
        };
        match offset {
            SELECT => io_apic.state.lock().select = value & 0xff,
            WINDOW => self.write_pin(vcpu, io_apic, value),
            _ => {}
        }
    }

    fn write_pin(&self, vcpu: &VcpuHandle<M>, io_apic: &IoApic, value: u32) {
        let mut state = io_apic.state.lock();
        let Some(register) = state.select.checked_sub(0x10) else {
            return;
        };
        let line = register / 2;
        let Some(pin) = state.pins.get_mut(line as usize) else {
            return;
        };
        let before = *pin;
        let after = if register & 1 == 0 {
            (before & (READ_ONLY | !0xffff_ffff)) | (u64::from(value) & !READ_ONLY)
        } else {
            (before & 0xffff_ffff) | (u64::from(value) << 32)
        };
        // An edge-triggered pin holds no request: how Linux clears one that is stuck.
        *pin = if after & LEVEL == 0 {
            after & !REMOTE_REQUEST
        } else {
            after
        };
        drop(state);
        let routed = |pin: u64| (pin & MASKED == 0).then_some(pin & (LEVEL | ACTIVE_LOW));
        if routed(before) != routed(after) {
            let processor = vcpu.last_processor.load(machine::sync::atomic::Ordering::Relaxed) as usize;
            let mode = LineMode {
                level: after & LEVEL != 0,
                active_low: after & ACTIVE_LOW != 0,
            };
            self.machine
                .route_line(line, (after & MASKED == 0).then_some((mode, processor)));
        }
    }

    /// A line of the machine's fired: the privileged domain gets the interrupt that it programmed for it.
    pub(crate) fn device_interrupt(&self, line: u32) {
        let Some(domain) = self.domains.get(hypercall_abi::DomainId::CONTROL) else {
            return;
        };
        let Some(io_apic) = &domain.io_apic else { return };
        let pin = {
            let mut state = io_apic.state.lock();
            let Some(pin) = state.pins.get_mut(line as usize) else {
                return;
            };
            if *pin & MASKED != 0 {
                return;
            }
            if *pin & LEVEL != 0 {
                *pin |= REMOTE_REQUEST;
            }
            *pin
        };
        let command = Command {
            vector: pin as u8,
            mode: 0,
            logical: pin & LOGICAL != 0,
            assert: true,
            shorthand: 0,
            destination: (pin >> 56) as u32,
            x2apic: false,
        };
        let mut delivered = false;
        self.each_vcpu(&domain, |vcpu| {
            if !delivered && command.vector >= 16 && vcpu.lapic.is_addressed(&command) {
                delivered = true;
                if pin & LEVEL != 0 {
                    vcpu.lapic.post_level(command.vector);
                } else {
                    vcpu.lapic.post(command.vector);
                }
                self.unblock(vcpu);
            }
        });
        if pin & LEVEL == 0 || !delivered {
            self.machine.complete_line(line);
        }
    }

    /// A guest completed a level-triggered vector: its lines may fire again.
    pub(crate) fn complete_device_interrupt(&self, vcpu: &VcpuHandle<M>, vector: u8) {
        let Some(io_apic) = &vcpu.domain().io_apic else {
            return;
        };
        for line in 0..io_apic.lines {
            let complete = {
                let mut state = io_apic.state.lock();
                let Some(pin) = state.pins.get_mut(line as usize) else {
                    return;
                };
                let ours = *pin & REMOTE_REQUEST != 0 && *pin as u8 == vector;
                if ours {
                    *pin &= !REMOTE_REQUEST;
                }
                ours
            };
            if complete {
                self.machine.complete_line(line);
            }
        }
    }
}

//! Shares of processor time: a domain's, and how a pool's scheduler gives them out.

use crate::DomainId;
use crate::buffer::Arguments;
use crate::error::{Error, Result};
use crate::hypervisor::Hypervisor;
use crate::system::SYSCTL_ROOM;
use hypercall_abi::domctl::{self, SchedulerOp, op, scheduler, scheduler_command};
use hypercall_abi::payload;
use hypercall_abi::sysctl;
use rustix::io::Errno;

/// What decides which virtual CPU runs next.
#[doc(alias = "XEN_SCHEDULER_CREDIT2")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Xen's older one: weights and caps.
    Credit,
    /// Xen's default, and the name under which ours with weights and caps goes.
    Credit2,
    /// Fixed frames of time, for avionics.
    Arinc653,
    /// A budget in each period.
    RealTime,
    /// One virtual CPU for each processor, and no choice.
    Null,
    /// A number this version does not know.
    Other(u32),
}

impl Scheduler {
    /// Every one that has a name.
    pub const ALL: [Self; 5] = [
        Self::Credit,
        Self::Credit2,
        Self::Arinc653,
        Self::RealTime,
        Self::Null,
    ];

    pub(crate) fn from_number(number: u32) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.number() == number);
        known.unwrap_or(Self::Other(number))
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Credit => scheduler::CREDIT,
            Self::Credit2 => scheduler::CREDIT2,
            Self::Arinc653 => scheduler::ARINC653,
            Self::RealTime => scheduler::RTDS,
            Self::Null => scheduler::NULL,
            Self::Other(number) => number,
        }
    }

    /// As Xen's tools write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Credit2 => "credit2",
            Self::Arinc653 => "arinc653",
            Self::RealTime => "rtds",
            Self::Null => "null",
            Self::Other(_) => "unknown",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether domains have weights and caps under it.
    pub fn has_shares(self) -> bool {
        matches!(self, Self::Credit | Self::Credit2)
    }
}

/// A domain's part in processor time.
#[doc(alias = "xen_domctl_sched_credit2")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// In proportion to the others'.
    pub weight: u16,
    /// Per cent of one processor at most; zero for no limit.
    pub cap: u16,
}

/// How a pool's scheduler gives time out. What the scheduler does not know is nothing.
#[doc(alias = "xen_sysctl_credit2_schedule")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolParameters {
    /// Least time that a virtual CPU runs before another may take its place; zero for none.
    pub rate_limit_us: Option<u32>,
    /// Longest time that one runs while others wait.
    pub time_slice_ms: Option<u32>,
    /// How long a virtual CPU's data counts as still in the processor's caches.
    pub migration_delay_us: Option<u32>,
}

impl Hypervisor {
    /// A domain's weight and cap, under a scheduler that has such.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_getinfo")]
    pub fn domain_share(&self, domain: DomainId, scheduler: Scheduler) -> Result<Share> {
        let mut request = SchedulerOp {
            scheduler: scheduler.number(),
            command: scheduler_command::GET_INFO,
            ..Default::default()
        };
        // SAFETY: the structure is this command's; that of weight and cap holds no addresses.
        unsafe {
            self.domctl(
                "get scheduling parameters",
                op::SCHEDULER_OP,
                domain,
                &mut request,
            )
        }?;
        // Both schedulers' structures are alike; credit 2's serves for both.
        let share: domctl::SchedCredit2 = payload::read(&request.parameters);
        Ok(Share {
            weight: share.weight,
            cap: share.cap,
        })
    }

    /// Sets a domain's weight and cap.
    #[doc(alias = "XEN_DOMCTL_SCHEDOP_putinfo")]
    pub fn set_domain_share(&self, domain: DomainId, scheduler: Scheduler, share: Share) -> Result<()> {
        let parameters = domctl::SchedCredit2 {
            weight: share.weight,
            cap: share.cap,
        };
        let mut request = SchedulerOp {
            scheduler: scheduler.number(),
            command: scheduler_command::PUT_INFO,
            parameters: payload::of(&parameters),
        };
        // SAFETY: the structure is this command's; that of weight and cap holds no addresses.
        unsafe {
            self.domctl(
                "set scheduling parameters",
                op::SCHEDULER_OP,
                domain,
                &mut request,
            )
        }
        .map(drop)
    }

    /// How a pool's scheduler gives time out. Schedulers without parameters are not asked.
    #[doc(alias = "XEN_SYSCTL_SCHEDOP_getinfo")]
    pub fn pool_parameters(&self, pool: u32, scheduler: Scheduler) -> Result<PoolParameters> {
        if !scheduler.has_shares() {
            return Ok(PoolParameters::default());
        }
        let command = sysctl::scheduler_command::GET_INFO;
        let parameters = self.scheduler_op("get scheduler parameters", pool, scheduler, command, [0; 2])?;
        Ok(match scheduler {
            Scheduler::Credit => {
                let view: sysctl::SchedCredit = payload::read(&parameters);
                PoolParameters {
                    rate_limit_us: Some(view.rate_limit_us),
                    time_slice_ms: Some(view.time_slice_ms),
                    migration_delay_us: Some(view.migration_delay_us),
                }
            }
            _ => PoolParameters {
                rate_limit_us: Some(payload::read::<sysctl::SchedCredit2, 2>(&parameters).rate_limit_us),
                ..Default::default()
            },
        })
    }

    /// Changes that; what is nothing here and something there counts as zero.
    #[doc(alias = "XEN_SYSCTL_SCHEDOP_putinfo")]
    pub fn set_pool_parameters(
        &self,
        pool: u32,
        scheduler: Scheduler,
        parameters: PoolParameters,
    ) -> Result<()> {
        let rate_limit_us = parameters.rate_limit_us.unwrap_or(0);
        let block = match scheduler {
            Scheduler::Credit => payload::of(&sysctl::SchedCredit {
                rate_limit_us,
                time_slice_ms: parameters.time_slice_ms.unwrap_or(0),
                migration_delay_us: parameters.migration_delay_us.unwrap_or(0),
            }),
            _ => payload::of(&sysctl::SchedCredit2 { rate_limit_us }),
        };
        let command = sysctl::scheduler_command::PUT_INFO;
        self.scheduler_op("set scheduler parameters", pool, scheduler, command, block)
            .map(drop)
    }

    fn scheduler_op(
        &self,
        operation: &'static str,
        pool: u32,
        scheduler: Scheduler,
        command: u32,
        parameters: [u64; 2],
    ) -> Result<[u64; 2]> {
        let mut request = sysctl::SchedulerOp {
            pool,
            scheduler: scheduler.number(),
            command,
            parameters,
            ..Default::default()
        };
        // Others have no parameters, or an address for parameters.
        if !scheduler.has_shares() {
            return Err(Error::new(operation, Errno::OPNOTSUPP));
        }
        self.with_arguments(SYSCTL_ROOM, |arguments: &mut Arguments| {
            // SAFETY: the structure is this command's; those of credit and credit 2 hold no addresses.
            unsafe { self.sysctl(operation, sysctl::op::SCHEDULER_OP, &mut request, arguments) }
        })?;
        Ok(request.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_survive_their_names_and_numbers() {
        for known in Scheduler::ALL {
            assert_eq!(Scheduler::from_name(known.name()), Some(known));
            assert_eq!(Scheduler::from_number(known.number()), known);
        }
        assert_eq!(Scheduler::from_number(4), Scheduler::Other(4));
        assert_eq!(Scheduler::Other(4).number(), 4);
        assert_eq!(Scheduler::from_name("sedf"), None);
    }
}

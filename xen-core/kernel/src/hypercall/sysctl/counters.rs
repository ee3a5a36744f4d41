//! `XEN_SYSCTL_perfc_op`: what is counted of each vCPU, for tools that show who uses the machine.
//!
//! Xen's interface tells nothing of another domain's vCPU but how long it ran. The counters are our own, under Xen's operation
//! for the hypervisor's counters: [`vcpu_counter`] says what their names are. A caller that gives no buffers learns how much
//! room they take now; one that gives some gets what fits into them.

use core::fmt::Write;

use hypercall_abi::sysctl::{
    PerformanceCounterDescription, PerformanceCounterOp, Sysctl, performance_counter, vcpu_counter,
};
use hypercall_abi::vcpu::runstate;
use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::sync::atomic::Ordering;
use machine::virtual_cpu::{EXIT_KINDS, Exit};

use crate::domain::VcpuHandle;
use crate::hypercall::Call;

/// The time that a vCPU waited, then its exits by reason.
const COLUMNS: usize = 1 + EXIT_KINDS;
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// Answer with counters, or with their number.
pub fn query<M: Machine>(call: &Call<'_, M>, request: &mut Sysctl) -> Result<(), Error> {
    let wanted: PerformanceCounterOp = request.view();
    // Nothing is ever reset: tools take differences, and each has its own beginning.
    if wanted.command != performance_counter::QUERY {
        return Err(Error::EOPNOTSUPP);
    }
    let mut answer = Answer::new(call, wanted);
    answer.columns()?;
    let mut next = DomainId(0);
    while let Some(domain) = call.kernel.domains.at_or_after(next) {
        let mut outcome = Ok(());
        call.kernel.each_vcpu(&domain, |vcpu| {
            if outcome.is_ok() {
                outcome = answer.row(vcpu);
            }
        });
        outcome?;
        next = DomainId(domain.id.0.saturating_add(1));
    }
    request.set_view(&answer.finish());
    Ok(())
}

/// What has been told so far.
struct Answer<'a, 'b, M: Machine> {
    call: &'a Call<'b, M>,
    wanted: PerformanceCounterOp,
    /// Counters and values that there is room for.
    room: (u32, u32),
    counters: u32,
    rows: u32,
}

impl<'a, 'b, M: Machine> Answer<'a, 'b, M> {
    fn new(call: &'a Call<'b, M>, wanted: PerformanceCounterOp) -> Self {
        let room = |is_null: bool, given: u32| if is_null { u32::MAX } else { given };
        Self {
            call,
            room: (
                room(wanted.descriptions.is_null(), wanted.number_of_counters),
                room(wanted.values.is_null(), wanted.number_of_values),
            ),
            wanted,
            counters: 0,
            rows: 0,
        }
    }

    fn values(rows: u32) -> u32 {
        rows.saturating_mul(COLUMNS as u32)
    }

    /// The names of the columns.
    fn columns(&mut self) -> Result<(), Error> {
        let prefix = vcpu_counter::COLUMN_PREFIX;
        self.describe(format_args!("{prefix}{}", vcpu_counter::RUNNABLE), 0)?;
        for kind in 0..EXIT_KINDS {
            let (exits, reason) = (vcpu_counter::EXITS_PREFIX, Exit::kind_name(kind));
            self.describe(format_args!("{prefix}{exits}{reason}"), 0)?;
        }
        Ok(())
    }

    /// One vCPU, if it fits.
    fn row(&mut self, vcpu: &VcpuHandle<M>) -> Result<(), Error> {
        if self.counters >= self.room.0 || Self::values(self.rows.saturating_add(1)) > self.room.1 {
            return Ok(());
        }
        let waited = vcpu.runstate.lock().at(self.call.machine().now()).time[runstate::RUNNABLE as usize];
        let mut values = [0; COLUMNS];
        let waited = core::iter::once(waited / NANOSECONDS_PER_MICROSECOND);
        let exits = vcpu.exits.iter().map(|count| count.load(Ordering::Relaxed));
        for (value, count) in values.iter_mut().zip(waited.chain(exits)) {
            // The low half: it starts anew when it is full.
            *value = count as u32;
        }
        if !self.wanted.values.is_null() {
            let address = self.wanted.values.address();
            self.call.write_element(address, u64::from(self.rows), &values)?;
        }
        let (prefix, domain, index) = (vcpu_counter::ROW_PREFIX, vcpu.domain().id.0, vcpu.index);
        self.describe(format_args!("{prefix}{domain}.{index}"), COLUMNS as u32)?;
        self.rows = self.rows.saturating_add(1);
        Ok(())
    }

    /// A counter's name and number of values, if it fits.
    fn describe(&mut self, name: core::fmt::Arguments<'_>, number_of_values: u32) -> Result<(), Error> {
        if self.counters >= self.room.0 {
            return Ok(());
        }
        if !self.wanted.descriptions.is_null() {
            let mut description = PerformanceCounterDescription {
                number_of_values,
                ..Default::default()
            };
            // All names are far shorter than the room for them; the zero behind it stays in any case.
            let mut text = heapless::String::<79>::new();
            let _ = text.write_fmt(name);
            for (to, from) in description.name.iter_mut().zip(text.bytes()) {
                *to = from;
            }
            let address = self.wanted.descriptions.address();
            self.call
                .write_element(address, u64::from(self.counters), &description)?;
        }
        self.counters = self.counters.saturating_add(1);
        Ok(())
    }

    fn finish(self) -> PerformanceCounterOp {
        PerformanceCounterOp {
            number_of_counters: self.counters,
            number_of_values: Self::values(self.rows),
            ..self.wanted
        }
    }
}

#[cfg(test)]
mod tests;

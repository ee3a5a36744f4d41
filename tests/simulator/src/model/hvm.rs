//! HVM parameters, vectors for events, assists.

use hypercall_abi::hvm::{EventUpcallVector, GetTime, Param, op, param};
use hypercall_abi::sched::shutdown;
use hypercall_abi::xen::vm_assist;
use hypercall_abi::{DomainId, Error};

use super::domain::PARAMETERS;
use super::{Answer, DONE, Model};

const FIRST_VECTOR: u8 = 16;

/// A parameter's place; there are holes in the numbering.
fn index_of(request: &Param) -> Result<usize, Error> {
    let index = request.index as usize;
    if index >= PARAMETERS || matches!(index, 3 | 7 | 8) {
        return Err(Error::EINVAL);
    }
    Ok(index)
}

impl Model {
    pub(super) fn hvm_op(&mut self, [operation, argument, ..]: [u64; 6]) -> Answer {
        match operation as u32 {
            op::SET_PARAM => self.set_parameter(argument)?,
            op::GET_PARAM => self.get_parameter(argument)?,
            op::FLUSH_TLBS if argument != 0 => return Err(Error::EINVAL.into()),
            op::FLUSH_TLBS => {}
            op::GET_TIME => self.write(argument, &GetTime { now: self.told.now })?,
            op::SET_EVTCHN_UPCALL_VECTOR => {
                let request: EventUpcallVector = self.read(argument)?;
                if request.vector < FIRST_VECTOR {
                    return Err(Error::EINVAL.into());
                }
                self.check_vcpu(request.vcpu)?;
                let me = self.caller.domain;
                self.vcpu_mut(me, request.vcpu).upcall_vector = request.vector;
                if self.vcpu(me, request.vcpu).upcall_pending() {
                    self.unblock(me, request.vcpu);
                }
            }
            _ => return Err(Error::ENOSYS.into()),
        }
        DONE
    }

    fn get_parameter(&mut self, argument: u64) -> Result<(), Error> {
        let mut request: Param = self.read(argument)?;
        let index = index_of(&request)?;
        let target = self.target(request.domain)?;
        let readable = matches!(
            request.index,
            param::CALLBACK_IRQ
                | param::VM86_TSS
                | param::VM86_TSS_SIZED
                | param::STORE_PFN
                | param::STORE_EVTCHN
                | param::CONSOLE_PFN
                | param::CONSOLE_EVTCHN
                | param::ALTP2M
                | param::VM_GENERATION_ID_ADDR
                | param::TRIPLE_FAULT_REASON
        );
        if target == self.caller.domain && !readable {
            return Err(Error::EPERM);
        }
        request.value = self.at(target).parameters[index];
        self.write(argument, &request)
    }

    fn set_parameter(&mut self, argument: u64) -> Result<(), Error> {
        let request: Param = self.read(argument)?;
        let index = index_of(&request)?;
        let target = self.target(request.domain)?;
        let settable = matches!(
            request.index,
            param::CALLBACK_IRQ
                | param::VM86_TSS
                | param::VM86_TSS_SIZED
                | param::STORE_EVTCHN
                | param::CONSOLE_EVTCHN
                | param::VM_GENERATION_ID_ADDR
        );
        if target == self.caller.domain && !settable {
            return Err(Error::EPERM);
        }
        let value = &mut self.at_mut(target).parameters[index];
        match request.index {
            param::TRIPLE_FAULT_REASON if request.value > u64::from(shutdown::MAX) => {
                return Err(Error::EINVAL);
            }
            // These can only be off.
            param::ALTP2M | param::NESTED_HVM | param::VIRIDIAN if request.value != 0 => {
                return Err(Error::EOPNOTSUPP);
            }
            // Once told, these stay.
            param::IOREQ_PFN
            | param::BUFIOREQ_PFN
            | param::IOREQ_SERVER_PFN
            | param::NR_IOREQ_SERVER_PAGES
                if *value != 0 && *value != request.value =>
            {
                return Err(Error::EEXIST);
            }
            _ => *value = request.value,
        }
        Ok(())
    }

    pub(super) fn vm_assist(&mut self, [command, kind, ..]: [u64; 6]) -> Answer {
        if kind as u32 != vm_assist::TYPE_RUNSTATE_UPDATE_FLAG {
            return Err(Error::EINVAL.into());
        }
        self.me_mut().marks_runstate = match command as u32 {
            vm_assist::ENABLE => true,
            vm_assist::DISABLE => false,
            _ => return Err(Error::ENOSYS.into()),
        };
        DONE
    }

    /// Whether a number means a domain other than the caller.
    pub(super) fn is_other(&self, id: DomainId) -> Result<(), Error> {
        if id.0 == self.caller.domain {
            Err(Error::EINVAL)
        } else {
            Ok(())
        }
    }
}

//! What can succeed.

use hypercall_abi::hypercall::number;
use hypercall_abi::{
    domctl, event_channel, grant_table, hvm, memory, platform, sched, sysctl, vcpu, version,
};

/// All that can succeed. What is missing here is not offered, whatever one asks.
pub fn can_succeed() -> Vec<(u64, u32)> {
    use number::*;
    let mut all = Vec::new();
    let mut add =
        |number: u64, operations: &[u32]| all.extend(operations.iter().map(|&operation| (number, operation)));
    {
        use event_channel::op::*;
        add(
            EVENT_CHANNEL_OP,
            &[
                BIND_INTERDOMAIN,
                BIND_VIRQ,
                CLOSE,
                SEND,
                STATUS,
                ALLOC_UNBOUND,
                BIND_IPI,
                BIND_VCPU,
                UNMASK,
                RESET,
                INIT_CONTROL,
                EXPAND_ARRAY,
                SET_PRIORITY,
            ],
        );
    }
    {
        use grant_table::op::*;
        add(
            GRANT_TABLE_OP,
            &[
                MAP_GRANT_REF,
                UNMAP_GRANT_REF,
                SETUP_TABLE,
                COPY,
                QUERY_SIZE,
                SET_VERSION,
                GET_VERSION,
                SWAP_GRANT_REF,
            ],
        );
    }
    {
        use memory::op::*;
        add(
            MEMORY_OP,
            &[
                DECREASE_RESERVATION,
                MAXIMUM_RAM_PAGE,
                CURRENT_RESERVATION,
                MAXIMUM_RESERVATION,
                POPULATE_PHYSMAP,
                ADD_TO_PHYSMAP,
                MEMORY_MAP,
                MACHINE_MEMORY_MAP,
                SET_MEMORY_MAP,
                MAXIMUM_GPFN,
                REMOVE_FROM_PHYSMAP,
                SET_POD_TARGET,
                GET_POD_TARGET,
                GET_SHARING_FREED_PAGES,
                GET_SHARING_SHARED_PAGES,
                ADD_TO_PHYSMAP_BATCH,
                CLAIM_PAGES,
                ACQUIRE_RESOURCE,
            ],
        );
    }
    {
        use sched::op::*;
        add(
            SCHED_OP,
            &[YIELD, BLOCK, SHUTDOWN, POLL, REMOTE_SHUTDOWN, SHUTDOWN_CODE],
        );
    }
    {
        use vcpu::op::*;
        add(
            VCPU_OP,
            &[
                UP,
                DOWN,
                IS_UP,
                GET_RUNSTATE_INFO,
                REGISTER_RUNSTATE_MEMORY_AREA,
                SET_PERIODIC_TIMER,
                STOP_PERIODIC_TIMER,
                SET_SINGLESHOT_TIMER,
                STOP_SINGLESHOT_TIMER,
                REGISTER_VCPU_INFO,
                SEND_NMI,
                GET_PHYSICAL_ID,
                REGISTER_VCPU_TIME_MEMORY_AREA,
            ],
        );
    }
    add(VM_ASSIST, &[0, 1]);
    {
        use hvm::op::*;
        add(
            HVM_OP,
            &[
                SET_PARAM,
                GET_PARAM,
                FLUSH_TLBS,
                GET_TIME,
                SET_EVTCHN_UPCALL_VECTOR,
            ],
        );
    }
    add(
        XEN_VERSION,
        &[0, 1, 2, 3, 4, 5, version::op::GET_FEATURES, 7, 8, 9],
    );
    add(CONSOLE_IO, &[0, 1]);
    add(MULTICALL, &[0]);
    {
        use platform::op::*;
        add(PLATFORM_OP, &[SET_TIME32, SET_TIME64, GET_CPU_INFO]);
    }
    {
        use sysctl::op::*;
        add(
            SYSCTL,
            &[
                READ_CONSOLE,
                PHYSICAL_INFO,
                SCHEDULER_ID,
                GET_DOMAIN_INFO_LIST,
                GET_CPU_INFO,
                AVAILABLE_HEAP,
                CPU_TOPOLOGY_INFO,
                NUMA_INFO,
                CPUPOOL_OP,
                GET_CPU_FEATURESET,
                GET_CPU_POLICY,
            ],
        );
    }
    {
        use domctl::op::*;
        add(
            DOMCTL,
            &[
                CREATE_DOMAIN,
                DESTROY_DOMAIN,
                PAUSE_DOMAIN,
                UNPAUSE_DOMAIN,
                GET_DOMAIN_INFO,
                SET_VCPU_AFFINITY,
                MAX_MEMORY,
                GET_VCPU_INFO,
                MAX_VCPUS,
                SCHEDULER_OP,
                SET_DOMAIN_HANDLE,
                GET_VCPU_AFFINITY,
                SEND_TRIGGER,
                GET_HVM_CONTEXT,
                SET_HVM_CONTEXT,
                GET_ADDRESS_SIZE,
                GET_TSC_INFO,
                SET_TSC_INFO,
                SET_NODE_AFFINITY,
                GET_NODE_AFFINITY,
                GET_CPU_POLICY,
                SET_CPU_POLICY,
                GET_PAGING_MEMPOOL_SIZE,
                SET_PAGING_MEMPOOL_SIZE,
            ],
        );
    }
    all
}

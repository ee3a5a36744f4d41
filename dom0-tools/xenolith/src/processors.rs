//! The machine's processors, for those who name some of them.

use crate::failure::{Failure, Result};
use control::{CpuPlace, CpuSet, Hypervisor};
use xenolith::cpu_list::{CpuList, Unresolved};

/// Those that are online.
pub struct Processors {
    all: CpuSet,
    places: Vec<CpuPlace>,
}

impl Processors {
    /// Asks for them.
    pub fn load(hypervisor: &Hypervisor) -> Result<Self> {
        let all = hypervisor.online_cpus()?;
        let mut places = hypervisor.cpu_places()?;
        places.retain(|place| all.contains(place.cpu));
        Ok(Self { all, places })
    }

    /// All of them.
    pub fn all(&self) -> &CpuSet {
        &self.all
    }

    fn of_node(&self, node: u32) -> CpuSet {
        let places = self.places.iter().filter(|place| place.node == Some(node));
        places.map(|place| place.cpu).collect()
    }

    /// Those that a list names; it must name some, and none that there are not.
    pub fn resolve(&self, list: &CpuList) -> Result<CpuSet> {
        let all = self.all();
        list.resolve(all, |node| self.of_node(node))
            .map_err(|unresolved| match unresolved {
                Unresolved::NoSuchCpu(cpu) => {
                    Failure::new(format!("this machine has no CPU {cpu}")).advise(format!("its CPUs: {all}"))
                }
                Unresolved::NoSuchNode(node) => {
                    let nodes: CpuSet = self.places.iter().filter_map(|place| place.node).collect();
                    Failure::new(format!("this machine has no node {node} with CPUs"))
                        .advise(format!("its nodes: {nodes}"))
                }
                Unresolved::Empty => Failure::new(format!("`{list}` names no CPU"))
                    .advise(format!("name one at least of {all}")),
            })
    }

    /// A set as people read it: `all` where it has all of them.
    pub fn show(&self, cpus: &CpuSet) -> String {
        match cpus.intersection(&self.all) {
            shown if shown == self.all => "all".to_owned(),
            shown if shown.is_empty() => "none".to_owned(),
            shown => shown.to_string(),
        }
    }
}

//! What an ideal scheduler gives: processor time flows to all domains at once, in proportion to their weights, and what
//! one does not want, or may not have, flows to the others (generalised processor sharing).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use machine::Nanoseconds;

/// A domain, as the ideal sees it.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its weight.
    pub weight: f64,
    /// The most processor time that it can use.
    pub most: f64,
}

/// The part of `capacity` that each gets.
pub fn shares(claims: &[Claim], capacity: f64) -> Vec<f64> {
    let mut given = vec![None; claims.len()];
    let mut left = capacity;
    loop {
        let open: f64 = open(claims, &given).map(|(_, claim)| claim.weight).sum();
        let level = if open > 0.0 { left / open } else { 0.0 };
        // Those that want less than their part get what they want, and leave the rest.
        let content: Vec<usize> = self::open(claims, &given)
            .filter(|(_, claim)| claim.most <= claim.weight * level)
            .map(|(index, _)| index)
            .collect();
        if content.is_empty() {
            let shares = claims.iter().zip(&given);
            return shares
                .map(|(claim, given)| given.unwrap_or(claim.weight * level))
                .collect();
        }
        for index in content {
            given[index] = Some(claims[index].most);
            left = (left - claims[index].most).max(0.0);
        }
    }
}

fn open<'a>(claims: &'a [Claim], given: &'a [Option<f64>]) -> impl Iterator<Item = (usize, &'a Claim)> {
    claims
        .iter()
        .enumerate()
        .filter(|(index, _)| given[*index].is_none())
}

/// A vCPU, as the ideal sees it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its domain.
    pub domain: usize,
    /// It computes for ever.
    pub endless: bool,
    /// What comes for it: when, and how long it takes.
    pub arrivals: Vec<(Nanoseconds, Nanoseconds)>,
}

/// What each domain has had by `from` and by `to`, in nanoseconds of a processor, if all flows ideally. Of each domain:
/// its weight, and its cap in parts of a processor.
pub fn flow(
    tasks: &[Task],
    domains: &[(f64, f64)],
    capacity: f64,
    from: Nanoseconds,
    to: Nanoseconds,
) -> Vec<f64> {
    let mut left: Vec<f64> = tasks
        .iter()
        .map(|task| if task.endless { f64::INFINITY } else { 0.0 })
        .collect();
    let mut arrivals: BinaryHeap<_> = tasks
        .iter()
        .enumerate()
        .flat_map(|(index, task)| {
            let own = task.arrivals.iter();
            own.map(move |&(at, length)| Reverse((at, index, length)))
        })
        .collect();
    let mut had = vec![0.0; domains.len()];
    let mut now = 0.0f64;
    let end = to as f64;
    while now < end {
        let mut busy = vec![0usize; domains.len()];
        for (task, left) in tasks.iter().zip(&left) {
            busy[task.domain] += usize::from(*left > 0.0);
        }
        let claims: Vec<Claim> = domains
            .iter()
            .zip(&busy)
            .map(|(&(weight, cap), &busy)| Claim {
                weight,
                most: cap.min(busy as f64),
            })
            .collect();
        let rates = shares(&claims, capacity);
        // Until something changes: work comes, or some is done.
        let mut next = end;
        if now < from as f64 {
            next = next.min(from as f64);
        }
        if let Some(Reverse((at, ..))) = arrivals.peek() {
            next = next.min(*at as f64);
        }
        let each = |domain: usize| rates[domain] / busy[domain].max(1) as f64;
        for (task, left) in tasks.iter().zip(&left) {
            let rate = each(task.domain);
            if left.is_finite() && *left > 0.0 && rate > 0.0 {
                next = next.min(now + left / rate);
            }
        }
        let span = (next - now).max(0.0);
        for (task, left) in tasks.iter().zip(&mut left) {
            if *left > 0.0 {
                let done = each(task.domain) * span;
                if now >= from as f64 {
                    had[task.domain] += done;
                }
                // Less than a nanosecond is rounding.
                *left = if *left - done < 1.0 { 0.0 } else { *left - done };
            }
        }
        now = next;
        while let Some(&Reverse((at, index, length))) = arrivals.peek() {
            if at as f64 > now {
                break;
            }
            arrivals.pop();
            left[index] += length as f64;
        }
    }
    had
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(weight: f64, most: f64) -> Claim {
        Claim { weight, most }
    }

    #[test]
    fn in_proportion_to_weights() {
        assert_eq!(shares(&[claim(1.0, 9.0), claim(3.0, 9.0)], 1.0), [0.25, 0.75]);
    }

    #[test]
    fn what_one_leaves_the_others_have() {
        let claims = [claim(1.0, 0.1), claim(1.0, 9.0), claim(2.0, 9.0)];
        let shares = shares(&claims, 1.0);
        assert!((shares[0] - 0.1).abs() + (shares[1] - 0.3).abs() + (shares[2] - 0.6).abs() < 1e-9);
    }

    #[test]
    fn nobody_has_more_than_its_vcpus_can_use() {
        // Weight promises one of them 1.5 processors, and it has one vCPU.
        let claims = [claim(3.0, 1.0), claim(1.0, 2.0)];
        assert_eq!(shares(&claims, 2.0), [1.0, 1.0]);
        assert_eq!(shares(&claims[..1], 2.0), [1.0]);
    }

    #[test]
    fn time_that_nobody_wanted_is_not_made_up_for() {
        let endless = |domain: usize| Task {
            domain,
            endless: true,
            arrivals: Vec::new(),
        };
        let late = Task {
            domain: 1,
            endless: false,
            arrivals: vec![(500, 1000)],
        };
        let had = flow(&[endless(0), late], &[(1.0, 9.0), (3.0, 9.0)], 1.0, 0, 1000);
        assert!(
            (had[0] - 625.0).abs() < 1.0 && (had[1] - 375.0).abs() < 1.0,
            "{had:?}"
        );
        let had = flow(&[endless(0)], &[(1.0, 0.25)], 1.0, 100, 1000);
        assert!((had[0] - 225.0).abs() < 1.0);
    }
}

//! The protocol as clients see it: every request, its answer, its refusals and its events.

mod common;

use common::House;
use std::time::Duration;
use xenstored::hypervisor::DomainState;
use xenstored::permission::{Caller, DomainId};
use xenstored::quota::Limits;
use xenstored::wire::MessageType::{self, *};
use zerocopy::IntoBytes;

fn refused(error: &str) -> common::Answer {
    Err(error.to_owned())
}

fn done() -> common::Answer {
    Ok("OK|".to_owned())
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    let mut house = House::new();
    assert_eq!(house.ask(Write, 0, "/a/b|value"), done());
    assert_eq!(house.ask(Read, 0, "/a/b|"), Ok("value".into()));
    assert_eq!(house.ask(MakeDirectory, 0, "/a/c|"), done());
    assert_eq!(house.ask(MakeDirectory, 0, "/a/c|"), done());
    assert_eq!(house.ask(Directory, 0, "/a|"), Ok("b|c|".into()));
    assert_eq!(house.ask(Directory, 0, "/a/b|"), Ok("".into()));
    assert!(house.ask(DirectoryPart, 0, "/a|0|").unwrap().ends_with("|b|c||"));
    assert!(house.ask(DirectoryPart, 0, "/a|2|").unwrap().ends_with("|c||"));
    assert_eq!(house.ask(Remove, 0, "/a|"), done());
    assert_eq!(house.ask(Read, 0, "/a/b|"), refused("ENOENT"));
    assert_eq!(house.ask(Remove, 0, "/a|"), done());
    assert_eq!(house.ask(Remove, 0, "/a/b|"), refused("ENOENT"));
    assert_eq!(house.ask(Directory, 0, "/|"), Ok("tool|".into()));
}

#[test]
fn values_may_hold_any_bytes() {
    let mut house = House::new();
    assert_eq!(house.ask(Write, 0, "/a|x|y|"), done());
    assert_eq!(house.ask(Read, 0, "/a|"), Ok("x|y|".into()));
    assert_eq!(house.ask(Write, 0, "/a|"), done());
    assert_eq!(house.ask(Read, 0, "/a|"), Ok("".into()));
}

#[test]
fn malformed_requests_are_refused() {
    let mut house = House::new();
    for (kind, payload) in [
        (Read, ""),
        (Read, "/a"),
        (Read, "/a|/b|"),
        (Read, "a b|"),
        (Read, "/a/|"),
        (Write, "/a"),
        (Write, ""),
        (Remove, "/|"),
        (SetPermissions, "/tool|"),
        (SetPermissions, "/tool|x0|"),
        (SetPermissions, "/tool|r0"),
        (GetPermissions, "@nonsense|"),
        (Watch, "/a|"),
        (Watch, "@nonsense|t|"),
        (Watch, "/a|t|more|"),
        (DirectoryPart, "/|"),
        (DirectoryPart, "/|-1|"),
        (TransactionEnd, "X|"),
        (TransactionEnd, ""),
        (Introduce, "1|2|"),
        (Introduce, "x|1|7|"),
        (Introduce, "1|1|x|"),
        (Introduce, "1|1|0|"),
        (Introduce, "0|1|7|"),
        (Introduce, "32752|1|7|"),
        (GetDomainPath, "-1|"),
        (IsDomainIntroduced, "|"),
        (Control, "nonsense|"),
        (Release, "0|"),
    ] {
        assert_eq!(
            house.ask(kind, 0, payload),
            refused("EINVAL"),
            "{kind:?} {payload:?}"
        );
    }
    assert_eq!(house.ask(WatchEvent, 0, "/a|t|"), refused("ENOSYS"));
    assert_eq!(house.ask(Error, 0, "EINVAL|"), refused("ENOSYS"));
}

#[test]
fn an_unknown_request_is_refused_and_the_connection_goes_on() {
    let mut house = House::new();
    let unknown = xenstored::wire::Header {
        kind: 20,
        request_id: 77,
        transaction_id: 3,
        length: 2,
    };
    let bytes = [unknown.as_bytes(), b"xy"].concat();
    house
        .store
        .connection_mut(house.toolstack)
        .unwrap()
        .input
        .feed(&bytes);
    assert!(house.store.process(house.toolstack, house.now));
    let connection = house.store.connection_mut(house.toolstack).unwrap();
    let reply = common::split(&mut connection.output.next().to_vec());
    assert_eq!(
        (reply[0].header.kind, reply[0].header.transaction_id),
        (Error as u32, 3)
    );
    assert_eq!(reply[0].payload, b"ENOSYS\0");
    let length = connection.output.next().len();
    connection.output.advance(length);
    assert_eq!(house.ask(Read, 0, "/tool|"), Ok("".into()));
}

#[test]
fn permissions_are_set_and_told() {
    let mut house = House::new();
    house.ask(Write, 0, "/a|").unwrap();
    assert_eq!(house.ask(GetPermissions, 0, "/a|"), Ok("r0|".into()));
    assert_eq!(house.ask(SetPermissions, 0, "/a|n0|b5|"), done());
    assert_eq!(house.ask(GetPermissions, 0, "/a|"), Ok("n0|b5|".into()));
    assert_eq!(house.ask(SetPermissions, 0, "/missing|n0|"), refused("ENOENT"));
}

#[test]
fn watches_tell_of_changes_on_and_below_a_node() {
    let mut house = House::new();
    let watcher = house.store.connect(Caller::CONTROL);
    assert_eq!(house.ask_as(watcher, Watch, 0, "/a|t|"), done());
    assert_eq!(house.ask_as(watcher, Watch, 0, "/a|t|"), refused("EEXIST"));
    assert_eq!(house.events(watcher), ["/a|t|"]);
    house.ask(Write, 0, "/a|1").unwrap();
    house.ask(Write, 0, "/a/b/c|1").unwrap();
    house.ask(Write, 0, "/ab|1").unwrap();
    house.ask(MakeDirectory, 0, "/a/b|").unwrap();
    assert_eq!(house.events(watcher), ["/a|t|", "/a/b/c|t|"]);
    house.ask(SetPermissions, 0, "/a/b|r0|").unwrap();
    house.ask(Remove, 0, "/a/b|").unwrap();
    assert_eq!(house.events(watcher), ["/a/b|t|"]);
    assert_eq!(house.ask_as(watcher, Unwatch, 0, "/a|t|"), done());
    assert_eq!(house.ask_as(watcher, Unwatch, 0, "/a|t|"), refused("ENOENT"));
    house.ask(Write, 0, "/a|2").unwrap();
    assert!(house.events(watcher).is_empty());
}

#[test]
fn removal_is_told_to_watchers_of_what_was_below() {
    let mut house = House::new();
    let watcher = house.store.connect(Caller::CONTROL);
    house.ask(Write, 0, "/a/b/c|").unwrap();
    for path in ["/a/b/c", "/a/b/missing", "/a/b", "/"] {
        house.ask_as(watcher, Watch, 0, &format!("{path}|t|")).unwrap();
    }
    house.events(watcher);
    house.ask(Remove, 0, "/a|").unwrap();
    let mut events = house.events(watcher);
    events.sort();
    assert_eq!(events, ["/a/b/c|t|", "/a/b|t|", "/a|t|"]);
}

#[test]
fn transactions_are_invisible_until_they_commit() {
    let mut house = House::new();
    let watcher = house.store.connect(Caller::CONTROL);
    house.ask_as(watcher, Watch, 0, "/a|t|").unwrap();
    house.events(watcher);
    let number: u32 = house
        .ask(TransactionStart, 0, "|")
        .unwrap()
        .trim_end_matches('|')
        .parse()
        .unwrap();
    assert_ne!(number, 0);
    house.ask(Write, number, "/a|1").unwrap();
    assert_eq!(house.ask(Read, number, "/a|"), Ok("1".into()));
    assert_eq!(house.ask(Read, 0, "/a|"), refused("ENOENT"));
    assert!(house.events(watcher).is_empty());
    assert_eq!(house.ask(TransactionStart, number, "|"), refused("EBUSY"));
    assert_eq!(house.ask(TransactionEnd, number, "T|"), done());
    assert_eq!(house.ask(Read, 0, "/a|"), Ok("1".into()));
    assert_eq!(house.events(watcher), ["/a|t|"]);
    assert_eq!(house.ask(TransactionEnd, number, "T|"), refused("ENOENT"));
    assert_eq!(house.ask(Read, number, "/a|"), refused("ENOENT"));
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let mut house = House::new();
    assert_eq!(house.ask(TransactionStart, 0, "|"), Ok("1|".into()));
    house.ask(Write, 1, "/a|1").unwrap();
    house.ask(TransactionEnd, 1, "F|").unwrap();
    assert_eq!(house.ask(Read, 0, "/a|"), refused("ENOENT"));
}

#[test]
fn a_conflict_is_reported_and_changes_nothing() {
    let mut house = House::new();
    house.ask(Write, 0, "/counter|1").unwrap();
    assert_eq!(house.ask(TransactionStart, 0, "|"), Ok("1|".into()));
    house.ask(Read, 1, "/counter|").unwrap();
    house.ask(Write, 1, "/counter|2").unwrap();
    house.ask(Write, 0, "/counter|5").unwrap();
    assert_eq!(house.ask(TransactionEnd, 1, "T|"), refused("EAGAIN"));
    assert_eq!(house.ask(Read, 0, "/counter|"), Ok("5".into()));
}

#[test]
fn a_clients_transactions_and_watches_end_with_it() {
    let mut house = House::new();
    let client = house.store.connect(Caller::CONTROL);
    house.ask_as(client, Watch, 0, "/|t|").unwrap();
    house.ask_as(client, TransactionStart, 0, "|").unwrap();
    house.store.disconnect(client);
    house.ask(Write, 0, "/a|").unwrap();
    let report = house.ask(Control, 0, "memreport|").unwrap();
    assert!(
        report.contains("watches 0\n") && report.contains("transactions 0\n"),
        "{report}"
    );
}

#[test]
fn reset_watches_ends_both() {
    let mut house = House::new();
    house.ask(Watch, 0, "/|t|").unwrap();
    house.ask(TransactionStart, 0, "|").unwrap();
    house.ask(ResetWatches, 0, "|").unwrap();
    let report = house.ask(Control, 0, "memreport|").unwrap();
    assert!(
        report.contains("watches 0\n") && report.contains("transactions 0\n"),
        "{report}"
    );
}

#[test]
fn a_guest_speaks_through_its_ring() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    assert_eq!(guest.ask(&mut house, Write, 0, "data/x|hello"), done());
    assert_eq!(house.ask(Read, 0, "/local/domain/5/data/x|"), Ok("hello".into()));
    assert_eq!(guest.ask(&mut house, Read, 0, "data/x|"), Ok("hello".into()));
    assert_eq!(guest.ask(&mut house, Write, 0, "name|mine"), refused("EACCES"));
    assert_eq!(
        guest.ask(&mut house, GetDomainPath, 0, "5|"),
        Ok("/local/domain/5|".into())
    );
    for (kind, payload) in [
        (Introduce, "6|1|7|"),
        (Release, "5|"),
        (Resume, "5|"),
        (SetTarget, "5|6|"),
        (Control, "help|"),
    ] {
        assert_eq!(guest.ask(&mut house, kind, 0, payload), refused("EACCES"));
    }
    assert!(!house.store.hypervisor().notified.is_empty());
}

#[test]
fn long_messages_pass_through_the_short_ring() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    let value = "v".repeat(2000);
    assert_eq!(
        guest.ask(&mut house, Write, 0, &format!("data/x|{value}")),
        done()
    );
    assert_eq!(guest.ask(&mut house, Read, 0, "data/x|"), Ok(value));
}

#[test]
fn a_guests_watches_are_relative_and_see_only_what_it_may_read() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    guest.ask(&mut house, Watch, 0, "device|t|").unwrap();
    guest.ask(&mut house, Watch, 0, "/|root|").unwrap();
    guest.take(&mut house);
    house.ask(Write, 0, "/local/domain/5/device/vbd|1").unwrap();
    let mut events = guest.events(&mut house);
    events.sort();
    assert_eq!(events, ["/local/domain/5/device/vbd|root|", "device/vbd|t|"]);
    house.ask(Write, 0, "/secret/of|dom0").unwrap();
    guest.take(&mut house);
    house.ask(SetPermissions, 0, "/secret|n0|").unwrap();
    // Told once more: it could read the node until now.
    assert_eq!(guest.events(&mut house), ["/secret|root|"]);
    house.ask(SetPermissions, 0, "/secret/of|n0|").unwrap();
    guest.take(&mut house);
    house.ask(Write, 0, "/secret/of|more").unwrap();
    house.ask(Write, 0, "/secret/else|more").unwrap();
    house.ask(SetPermissions, 0, "/secret/else|n0|").unwrap();
    guest.take(&mut house);
    house.ask(Remove, 0, "/secret/else|").unwrap();
    assert!(guest.events(&mut house).is_empty());
}

#[test]
fn the_coming_and_going_of_domains_is_told_to_dom0_and_to_whom_dom0_allows() {
    let mut house = House::new();
    let mut observer = house.add_guest(5);
    for special in ["@introduceDomain", "@releaseDomain"] {
        house.ask(Watch, 0, &format!("{special}|t|")).unwrap();
        observer
            .ask(&mut house, Watch, 0, &format!("{special}|t|"))
            .unwrap();
    }
    house.events(house.toolstack);
    observer.take(&mut house);
    house.add_guest(6);
    assert_eq!(house.events(house.toolstack), ["@introduceDomain|t|"]);
    assert!(observer.events(&mut house).is_empty());
    assert_eq!(
        observer.ask(&mut house, SetPermissions, 0, "@releaseDomain|n5|"),
        refused("EACCES")
    );
    assert_eq!(
        observer.ask(&mut house, GetPermissions, 0, "@releaseDomain|"),
        refused("EACCES")
    );
    assert_eq!(house.ask(SetPermissions, 0, "@releaseDomain|n0|r5|"), done());
    assert_eq!(
        observer.ask(&mut house, GetPermissions, 0, "@releaseDomain|"),
        Ok("n0|r5|".into())
    );
    house.ask(Release, 0, "6|").unwrap();
    assert_eq!(house.events(house.toolstack), ["@releaseDomain|t|"]);
    assert_eq!(observer.events(&mut house), ["@releaseDomain|t|"]);
    assert_eq!(house.ask(Release, 0, "6|"), refused("ENOENT"));
}

#[test]
fn shutdown_is_told_once_and_destruction_takes_everything() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    guest.ask(&mut house, Write, 0, "data/x|").unwrap();
    house.ask(Write, 0, "/backend/5|").unwrap();
    house.ask(SetPermissions, 0, "/backend/5|n0|r5|").unwrap();
    house.ask(Watch, 0, "@releaseDomain|t|").unwrap();
    house.events(house.toolstack);
    house.store.check_domains();
    assert!(house.events(house.toolstack).is_empty());
    house
        .store
        .hypervisor_mut()
        .states
        .insert(DomainId(5), DomainState::ShutDown);
    house.store.check_domains();
    house.store.check_domains();
    assert_eq!(house.events(house.toolstack), ["@releaseDomain|t|"]);
    assert_eq!(house.ask(IsDomainIntroduced, 0, "5|"), Ok("T|".into()));
    house
        .store
        .hypervisor_mut()
        .states
        .insert(DomainId(5), DomainState::Dying);
    house.store.check_domains();
    assert_eq!(house.events(house.toolstack), ["@releaseDomain|t|"]);
    assert_eq!(house.ask(IsDomainIntroduced, 0, "5|"), Ok("F|".into()));
    assert_eq!(house.ask(Read, 0, "/local/domain/5/data|"), refused("ENOENT"));
    assert_eq!(house.ask(GetPermissions, 0, "/backend/5|"), Ok("n0|".into()));
    assert!(house.store.hypervisor().bound.is_empty());
    assert!(
        !house
            .store
            .tree()
            .mentioned_domains()
            .any(|domain| domain == DomainId(5))
    );
    assert_eq!(house.ask(Control, 0, "check|"), Ok("OK|".into()));
}

#[test]
fn a_domain_that_was_never_introduced_is_forgotten_too() {
    let mut house = House::new();
    house.ask(Write, 0, "/local/domain/9/x|").unwrap();
    house.ask(SetPermissions, 0, "/local/domain/9/x|n0|b9|").unwrap();
    house
        .store
        .hypervisor_mut()
        .states
        .insert(DomainId(9), DomainState::Alive);
    house.store.check_domains();
    assert_eq!(
        house.ask(GetPermissions, 0, "/local/domain/9/x|"),
        Ok("n0|b9|".into())
    );
    house.store.hypervisor_mut().states.remove(&DomainId(9));
    house.store.check_domains();
    assert_eq!(
        house.ask(GetPermissions, 0, "/local/domain/9/x|"),
        Ok("n0|".into())
    );
}

#[test]
fn a_device_model_may_write_for_its_target() {
    let mut house = House::new();
    let mut model = house.add_guest(6);
    house.add_guest(5);
    assert_eq!(
        model.ask(&mut house, Write, 0, "/local/domain/5/data/x|"),
        refused("EACCES")
    );
    assert_eq!(house.ask(SetTarget, 0, "6|5|"), done());
    assert_eq!(model.ask(&mut house, Write, 0, "/local/domain/5/data/x|"), done());
    house.ask(Release, 0, "5|").unwrap();
    let mut again = house.add_guest(5);
    assert_eq!(
        model.ask(&mut house, Write, 0, "/local/domain/5/data/x|"),
        refused("EACCES")
    );
    assert_eq!(again.ask(&mut house, Write, 0, "data/x|"), done());
}

#[test]
fn introducing_again_connects_the_new_channel_and_starts_afresh() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    guest.ask(&mut house, Watch, 0, "data|t|").unwrap();
    guest.ask(&mut house, TransactionStart, 0, "|").unwrap();
    house.ask(Introduce, 0, "5|1|8|").unwrap();
    assert_eq!(house.store.hypervisor().bound.len(), 1);
    assert_eq!(guest.ask(&mut house, Watch, 0, "data|t|"), done());
    assert_eq!(guest.ask(&mut house, Read, 1, "data|"), refused("ENOENT"));
}

#[test]
fn introducing_what_cannot_be_mapped_is_refused() {
    let mut house = House::new();
    assert_eq!(house.ask(Introduce, 0, "9|1|7|"), refused("EINVAL"));
    assert_eq!(house.ask(IsDomainIntroduced, 0, "9|"), Ok("F|".into()));
}

#[test]
fn quotas_hold_for_guests_only() {
    let limits = Limits {
        watches: 2,
        transactions: 2,
        nodes: 5,
        ..Limits::default()
    };
    let mut house = House::with_limits(limits);
    let mut guest = house.add_guest(5);
    for (index, expected) in [done(), done(), refused("E2BIG")].into_iter().enumerate() {
        assert_eq!(
            guest.ask(&mut house, Watch, 0, &format!("data|{index}|")),
            expected
        );
        house.ask(Watch, 0, &format!("/a|{index}|")).unwrap();
    }
    assert!(guest.ask(&mut house, TransactionStart, 0, "|").is_ok());
    assert!(guest.ask(&mut house, TransactionStart, 0, "|").is_ok());
    assert_eq!(guest.ask(&mut house, TransactionStart, 0, "|"), refused("ENOSPC"));
    assert_eq!(guest.ask(&mut house, Write, 0, "data/1/2/3/4|"), done());
    assert_eq!(
        guest.ask(&mut house, Write, 0, "data/1/2/3/4/5|"),
        refused("ENOSPC")
    );
    assert_eq!(house.ask(Control, 0, "quota|nodes|100|"), Ok("OK|".into()));
    assert_eq!(guest.ask(&mut house, Write, 0, "data/1/2/3/4/5|"), done());
    assert!(
        house
            .ask(Control, 0, "quota|5|")
            .unwrap()
            .starts_with("nodes 6\nwatches 2\ntransactions 2\n")
    );
}

#[test]
fn a_live_update_is_refused_clearly() {
    let mut house = House::new();
    assert_eq!(house.ask(Control, 0, "live-update|-s|"), refused("ENOSYS"));
    for command in [
        "help|",
        "quota|",
        "check|",
        "memreport|",
        "log|on|",
        "log|off|",
        "print|x|",
    ] {
        assert!(house.ask(Control, 0, command).is_ok(), "{command}");
    }
}

#[test]
fn a_guest_that_takes_no_answers_is_not_listened_to_until_it_does() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    let request = xenstored::wire::encode(MessageType::Directory, 5, 0, b"/\0");
    for _ in 0..500 {
        guest.send(&mut house, &request);
    }
    house.serve(&guest);
    let id = xenstored::watch::ConnectionId(2);
    assert!(house.store.connection(id).unwrap().output.replies() <= Limits::default().outstanding);
    let mut answers = 0;
    for _ in 0..100 {
        answers += guest.take(&mut house).len();
    }
    assert!(answers >= 50, "{answers}");
}

#[test]
fn a_guest_whose_changes_pile_up_elsewhere_is_slowed_down_and_the_idle_watcher_dropped() {
    let mut house = House::with_limits(Limits {
        nodes: 100_000,
        node_size: 1 << 30,
        ..Limits::default()
    });
    let mut noisy = house.add_guest(5);
    let mut idle = house.add_guest(6);
    house.ask(SetPermissions, 0, "/local/domain/5/data|r5|").unwrap();
    idle.ask(&mut house, Watch, 0, "/local/domain/5/data|t|").unwrap();
    let name = "n".repeat(1500);
    let start = house.now;
    for index in 0..4000 {
        let payload = format!("data/{index}-{name}|");
        let bytes = xenstored::wire::encode(Write, 5, 0, payload.replace('|', "\0").as_bytes());
        noisy.send(&mut house, &bytes);
        noisy.take(&mut house);
        if idle.error() != 0 {
            break;
        }
    }
    let elapsed = house.now - start;
    assert_eq!(idle.error(), 1);
    assert!(elapsed > Duration::from_secs(60), "filled within {elapsed:?}");
    assert_eq!(noisy.error(), 0);
    house.wait(Duration::from_millis(100));
    noisy.take(&mut house);
    assert_eq!(noisy.ask(&mut house, Read, 0, "data|"), Ok("".into()));
}

#[test]
fn a_stuck_client_in_dom0_slows_guests_down_only_for_a_while() {
    let mut house = House::with_limits(Limits {
        nodes: 100_000,
        node_size: 1 << 30,
        ..Limits::default()
    });
    let mut guest = house.add_guest(5);
    let stuck = house.store.connect(Caller::CONTROL);
    house.ask_as(stuck, Watch, 0, "/|t|").unwrap();
    let name = "n".repeat(1500);
    let start = house.now;
    for index in 0..1000 {
        let payload = format!("data/{index}-{name}|");
        let bytes = xenstored::wire::encode(Write, 5, 0, payload.replace('|', "\0").as_bytes());
        guest.send(&mut house, &bytes);
        guest.take(&mut house);
    }
    assert!(house.store.connection(stuck).unwrap().failure().is_some());
    let elapsed = house.now - start;
    assert!(
        (10..30).contains(&elapsed.as_secs()),
        "slowed down for {elapsed:?}"
    );
    assert_eq!(guest.error(), 0);
}

#[test]
fn domains_named_at_will_are_forgotten_in_one_go() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    for node in 0..200_u16 {
        guest.ask(&mut house, Write, 0, &format!("data/{node}|")).unwrap();
        let first = 1000 + 4 * node;
        let list: String = (first..first + 4).map(|domain| format!("r{domain}|")).collect();
        guest
            .ask(&mut house, SetPermissions, 0, &format!("data/{node}|n5|{list}"))
            .unwrap();
    }
    assert_eq!(house.store.tree().mentioned_domains().count(), 802);
    house.store.check_domains();
    assert_eq!(house.store.tree().mentioned_domains().count(), 2);
    assert_eq!(
        guest.ask(&mut house, GetPermissions, 0, "data/7|"),
        Ok("n5|".into())
    );
    assert_eq!(house.ask(Control, 0, "check|"), done());
}

#[test]
fn a_guests_transactions_hold_only_so_many_bytes() {
    let mut house = House::new();
    let mut guest = house.add_guest(5);
    assert_eq!(guest.ask(&mut house, TransactionStart, 0, "|"), Ok("1|".into()));
    let value = "v".repeat(2000);
    let written = (0..1000)
        .take_while(|_| {
            guest
                .ask(&mut house, Write, 1, &format!("data/x|{value}"))
                .is_ok()
        })
        .count();
    assert!((100..200).contains(&written), "{written}");
    assert_eq!(guest.ask(&mut house, TransactionEnd, 1, "F|"), done());
}

//! What both sides of a tunnel are told when longhaul ends it, for each reason why.

use serde_json::json;

use crate::kit::{Opcode, Over, Wire, over_each};

use self::scene::{CODES, Place, REASONS, Said, Why, close_all, ended, ended_by, told, told_why};

mod scene;

over_each!(
    on two threads:
    each_reason_has_its_text_and_the_code_that_is_said_for_it,
    the_reason_that_an_operator_gives_arrives,
    an_upstream_has_codes_of_its_own,
    none_for_one_reason_is_a_close_without_a_frame,
    an_edit_of_the_codes_holds_for_the_next_close,
    the_codes_of_its_own_clocks_a_tunnel_keeps,
    a_side_that_hangs_has_its_own_code_told_to_the_other,
);

async fn each_reason_has_its_text_and_the_code_that_is_said_for_it(over: Over) {
    let said = Said {
        all: CODES,
        ..Said::default()
    };
    for (why, code, text) in REASONS {
        let told = Some((code, text.to_owned()));
        assert_eq!(
            ended_by(over, why, said).await,
            [told.clone(), told],
            "{why:?}"
        );
    }
    // And where only one is said, the others have the code of all.
    let said = Said {
        all: "close_code = 4000\nclose_codes = { stop = 4001 }",
        ..Said::default()
    };
    for (why, code) in [
        (Why::Stop, 4001),
        (Why::Drain, 4000),
        (Why::IdleTimeout, 1001),
    ] {
        assert_eq!(ended(over, why, said).await, [Some(code); 2], "{why:?}");
    }
}

async fn the_reason_that_an_operator_gives_arrives(over: Over) {
    let place = Place::new().await;
    let proxy = place.start(over, Said::default()).await;
    // As long as it may be, and with a character that is no byte.
    let longest = format!("{}é", "x".repeat(121));
    for reason in ["come back at noon", "", &longest] {
        let mut ends = place.open(&proxy).await;
        let body = json!({ "all": true, "code": 4321, "reason": reason });
        close_all(&proxy, body).await;
        for (end, masked) in ends.iter_mut().zip([false, true]) {
            let told = told_why(end, masked).await;
            assert_eq!(told, Some((4321, reason.to_owned())));
        }
    }
}

#[test]
fn the_reasons_are_in_the_documentation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    for (why, _, reason) in REASONS {
        assert!(text.contains(&format!("| `{reason}` |")), "{why:?}");
    }
}

async fn an_upstream_has_codes_of_its_own(over: Over) {
    let said = Said {
        all: CODES,
        own: ", close_codes = { drain = 4102, unhealthy = 4104, rebalance = 'none', \
              max_lifetime = 4107, idle_timeout = 4108 }",
        ..Said::default()
    };
    for (why, code) in [
        (Why::Stop, Some(4001)),
        (Why::Drain, Some(4102)),
        (Why::Removed, Some(4003)),
        (Why::Unhealthy, Some(4104)),
        (Why::Rebalance, None),
        (Why::MaxLifetime, Some(4107)),
        (Why::IdleTimeout, Some(4108)),
    ] {
        assert_eq!(ended(over, why, said).await, [code; 2], "{why:?}");
    }
}

async fn none_for_one_reason_is_a_close_without_a_frame(over: Over) {
    let said = Said {
        all: "close_codes = { operator = 'none', max_lifetime = 'none', idle_timeout = 'none' }",
        ..Said::default()
    };
    for (why, code) in [
        (Why::Operator, None),
        (Why::MaxLifetime, None),
        (Why::IdleTimeout, None),
        (Why::Drain, Some(1012)),
    ] {
        assert_eq!(ended(over, why, said).await, [code; 2], "{why:?}");
    }
}

async fn an_edit_of_the_codes_holds_for_the_next_close(over: Over) {
    let mut place = Place::new().await;
    let said = Said {
        all: CODES,
        ..Said::default()
    };
    let proxy = place.start(over, said).await;
    let mut ends = place.open(&proxy).await;
    let edited = Said {
        all: "close_codes = { drain = 4202 }",
        ..said
    };
    place.end(&proxy, Why::Drain, edited).await;
    for (end, masked) in ends.iter_mut().zip([false, true]) {
        assert_eq!(told(end, masked).await, Some(4202));
    }
    // One that may not be sent changes nothing.
    let wrong = Said {
        all: "close_codes = { stop = 1006 }",
        ..said
    };
    let states = [Some("active"), Some("disabled")];
    let event = proxy.refuse(place.site(wrong, states, "")).await;
    assert!(
        event.line.contains("a close code that may be sent"),
        "{}",
        event.line
    );
}

async fn the_codes_of_its_own_clocks_a_tunnel_keeps(over: Over) {
    let place = Place::new().await;
    let said = Said {
        all: CODES,
        route: "max_lifetime = '2s'\nmax_lifetime_jitter = 0.0",
        ..Said::default()
    };
    let proxy = place.start(over, said).await;
    let mut ends = place.open(&proxy).await;
    let edited = Said { all: "", ..said };
    let states = [Some("active"), Some("disabled")];
    proxy.reload(place.site(edited, states, "")).await;
    for (end, masked) in ends.iter_mut().zip([false, true]) {
        assert_eq!(told(end, masked).await, Some(4007));
    }
}

/// Until its Close comes, a side is sent pings, which it does not answer.
async fn told_after_pings(wire: &mut Wire) -> (Option<u16>, String) {
    loop {
        let frame = wire.frame().await;
        if frame.opcode != Opcode::Ping {
            let reason = String::from_utf8_lossy(&frame.payload[2..]);
            return (frame.close_code(), reason.into_owned());
        }
    }
}

async fn a_side_that_hangs_has_its_own_code_told_to_the_other(over: Over) {
    for (side, told) in [("client", 1), ("backend", 0)] {
        let place = Place::new().await;
        let route = match side {
            "client" => "ping_interval = '300ms'\nping_timeout = '400ms'\nping_side = 'client'",
            _ => "ping_interval = '300ms'\nping_timeout = '400ms'\nping_side = 'backend'",
        };
        let said = Said {
            all: CODES,
            route,
            ..Said::default()
        };
        let proxy = place.start(over, said).await;
        let mut ends = place.open(&proxy).await;
        let reason = "the other side does not answer".to_owned();
        let told = told_after_pings(&mut ends[told]).await;
        assert_eq!(told, (Some(4009), reason), "{side}");
    }
}

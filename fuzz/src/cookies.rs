use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Uri};
use longhaul::fuzzing::{cookie, query};

/// Cookies and queries that sticky keys come from: the first line is a name, the
/// second a request target, the others are lines of `Cookie`.
pub fn cookies(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n').take(50);
    let (Some(name), Some(target)) = (lines.next(), lines.next()) else {
        return;
    };
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let values: Vec<HeaderValue> = lines
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    cookie_lines(name, &values);
    if let Ok(target) = Uri::try_from(target) {
        queries(&target, name);
    }
}

fn cookie_lines(name: &str, values: &[HeaderValue]) {
    let found_in = |values: &[HeaderValue]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(COOKIE, value.clone());
        }
        cookie(&headers, name).map(str::to_owned)
    };
    let found = found_in(values);
    if let Some(value) = &found {
        assert!(!value.contains(';'), "{value:?} is more than one");
    }
    // Several lines are one with semicolons between (RFC 9113 section 8.2.3).
    let readable = values.iter().filter(|value| value.to_str().is_ok());
    let parts: Vec<&[u8]> = readable.map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&parts.join(&b"; "[..])).expect("a value");
    assert_eq!(found, found_in(&[joined]), "lines and one line differ");
    // The first of two counts.
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let first = HeaderValue::from_str(&format!("{name}=first")).expect("a value");
        let all = [&[first], values].concat();
        assert_eq!(found_in(&all).as_deref(), Some("first"));
    }
}

fn queries(target: &Uri, name: &str) {
    let Some(value) = query(target, name) else {
        return;
    };
    assert!(!value.contains('&'), "{value:?} is more than one");
    let pair = format!("{name}={value}");
    assert!(target.query().is_some_and(|all| all.contains(&pair)));
}

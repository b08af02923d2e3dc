//! HTTP/1.1 heads, read strictly.
//!
//! What RFC 9112 forbids fails the test: bare line feeds, folded lines, two
//! lengths, a length beside a transfer coding. Order and spelling are kept.

/// Header lines in their order, names as they were spelled.
pub type Headers = Vec<(String, String)>;

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Headers,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Headers,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Headers,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    None,
    Bytes(usize),
    Chunked,
    ToTheEnd,
}

impl Head {
    pub fn parse(raw: &[u8]) -> Self {
        let (first, headers) = lines(raw);
        let rest = first
            .strip_prefix("HTTP/1.1 ")
            .unwrap_or_else(|| panic!("not an HTTP/1.1 status line: {first:?}"));
        let (code, _reason) = rest
            .split_once(' ')
            .unwrap_or_else(|| panic!("no space behind the status code: {first:?}"));
        assert_eq!(code.len(), 3, "status code of three digits: {first:?}");
        let status = code
            .parse()
            .unwrap_or_else(|_| panic!("status code: {first:?}"));
        let head = Self { status, headers };
        if (100..200).contains(&status) || status == 204 {
            assert_eq!(
                head.all("content-length"),
                [""; 0],
                "RFC 9110 section 8.6: {head:?}"
            );
            assert_eq!(
                head.all("transfer-encoding"),
                [""; 0],
                "RFC 9112 section 6.1: {head:?}"
            );
        }
        length(&head.headers, Length::ToTheEnd);
        head
    }

    /// The one value of a header; more than one line of it fails.
    pub fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.headers, name)
    }

    pub fn length(&self, method: &str) -> Length {
        match self.status {
            100..200 | 204 | 304 => Length::None,
            _ if method == "HEAD" => Length::None,
            _ => length(&self.headers, Length::ToTheEnd),
        }
    }
}

impl Request {
    pub fn parse(raw: &[u8]) -> Self {
        let (first, headers) = lines(raw);
        let parts: Vec<&str> = first.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts[..] else {
            panic!("not an HTTP/1.1 request line: {first:?}");
        };
        let request = Self {
            method: method.into(),
            target: target.into(),
            headers,
        };
        assert_eq!(
            request.all("host").len(),
            1,
            "exactly one Host: {request:?}"
        );
        request
    }

    /// The one value of a header; more than one line of it fails.
    pub fn header(&self, name: &str) -> Option<&str> {
        one(&self.headers, name)
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.headers, name)
    }

    pub fn length(&self) -> Length {
        length(&self.headers, Length::None)
    }
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

pub fn length(headers: &Headers, otherwise: Length) -> Length {
    let lengths = all(headers, "content-length");
    let codings = all(headers, "transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => otherwise,
        ([bytes], []) => Length::Bytes(bytes.parse().expect("a number in content-length")),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Length::Chunked,
        _ => panic!("no single length: {headers:?}"),
    }
}

pub fn one<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let values = all(headers, name);
    assert!(
        values.len() < 2,
        "{name} is there {} times: {headers:?}",
        values.len()
    );
    values.first().copied()
}

pub fn all<'a>(headers: &'a Headers, name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// Header or trailer lines, each with its CRLF.
pub fn fields(text: &str) -> Headers {
    text.split_terminator("\r\n").map(field).collect()
}

fn field(line: &str) -> (String, String) {
    assert!(
        !line.contains(['\r', '\n', '\0']),
        "bare control character in {line:?}"
    );
    let (name, value) = line
        .split_once(':')
        .unwrap_or_else(|| panic!("no colon in {line:?}"));
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    assert!(
        !name.is_empty() && name.chars().all(token),
        "not a field name in {line:?}"
    );
    (name.into(), value.trim_matches([' ', '\t']).into())
}

fn lines(raw: &[u8]) -> (String, Headers) {
    let text = String::from_utf8_lossy(raw);
    let text = text
        .strip_suffix("\r\n\r\n")
        .expect("a head ends in an empty line");
    let (first, rest) = text.split_once("\r\n").unwrap_or((text, ""));
    assert!(
        !first.contains(['\r', '\n', '\0']),
        "bare control character in {first:?}"
    );
    (first.into(), fields(rest))
}

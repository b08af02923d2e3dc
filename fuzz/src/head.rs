use longhaul::fuzzing;

/// The first head of a connection: the verdict does not depend on how the bytes
/// were read, nothing behind the head matters, and a verdict against it stays.
pub fn head(data: &[u8]) {
    let whole = fuzzing::head([data]);
    assert_eq!(whole, fuzzing::head(data.chunks(1)), "byte by byte");
    let middle = data.len() / 2;
    assert_eq!(whole, fuzzing::head([&data[..middle], &data[middle..]]));
    let more = [data, b"\nbody\n\nContent-Length: 1\nTransfer-Encoding: x\n"].concat();
    if whole.is_err() {
        assert_eq!(whole, fuzzing::head([&*more]), "more bytes make it good");
    }
    let Some(end) = end_of_head(data) else { return };
    assert_eq!(
        fuzzing::head([&data[..end]]),
        whole,
        "what follows is judged"
    );
    if whole.is_ok() {
        let feeds = (0..end).filter(|at| data[*at] == b'\n');
        assert!(feeds.into_iter().all(|at| data[at - 1] == b'\r'));
        assert_eq!(fuzzing::head([&*more]), Ok(()));
    }
}

/// Behind the first empty line, of a head with no empty lines before it. One with
/// doubled returns, which hyper refuses, may end earlier.
fn end_of_head(data: &[u8]) -> Option<usize> {
    let blank = data.windows(4).position(|four| four == b"\r\n\r\n")?;
    if data[..blank].windows(2).any(|two| two == b"\r\r") {
        return None;
    }
    (!matches!(data[0], b'\r' | b'\n')).then_some(blank + 4)
}

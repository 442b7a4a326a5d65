//! Paths as they are counted: segments that vary from call to call are `{}`.

/// Bytes that are kept.
const MAX: usize = 120;
/// Segments that are kept.
const SEGMENTS: usize = 8;
/// Longer ones are no words.
const WORD: usize = 32;
/// What stands for a segment that varies, and for the rest of a path that is too long.
const VARIES: &[u8] = b"{}";
const REST: &[u8] = b"/**";

/// A path without what varies, made without allocating.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generalised {
    bytes: [u8; MAX],
    length: usize,
}

impl Generalised {
    pub(crate) fn of(path: &str) -> Self {
        let mut all = Self { bytes: [0; MAX], length: 0 };
        for (place, segment) in path.strip_prefix('/').unwrap_or(path).split('/').enumerate() {
            let kept = if varies(segment) { VARIES } else { segment.as_bytes() };
            if place == SEGMENTS || all.length + 1 + kept.len() + REST.len() > MAX {
                all.push(REST);
                return all;
            }
            all.push(b"/");
            all.push(kept);
        }
        all
    }

    fn push(&mut self, more: &[u8]) {
        let end = self.length + more.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(more);
            self.length = end;
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Only whole words of plain characters were put in.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or("/**")
    }
}

/// Whether a segment names one of many.
fn varies(segment: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~');
    let bytes = segment.as_bytes();
    if bytes.len() > WORD || !bytes.iter().copied().all(is_plain) {
        return true;
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    // `v1` is a word, `42` is none; neither is what is long and has digits all over.
    (digits > 0 && digits == bytes.len())
        || (digits > 0 && bytes.len() >= 8 && bytes.iter().all(is_hex))
        || (bytes.len() >= 16 && digits * 4 >= bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_one_of_many_is_left_out_and_words_stay() {
        for (path, told) in [
            ("/", "/"),
            ("/orders", "/orders"),
            ("/v1/orders/42", "/v1/orders/{}"),
            ("/orders/3f2b1c9e-0000-4000-8000-1234567890ab/items", "/orders/{}/items"),
            ("/o/5f2b1c9e", "/o/{}"),
            ("/static/main.8f3a2b1c.js", "/static/{}"),
            ("/shop.Orders/Place", "/shop.Orders/Place"),
            ("/a%2fb/\u{e9}", "/{}/{}"),
            ("/deadbeef/face", "/deadbeef/face"),
            ("/t/eyJhbGciOiJIUzI1NiJ9eyJhbGciOiJIUzI1NiJ9", "/t/{}"),
            ("*", "/{}"),
            ("/1/2/3/4/5/6/7/8/9", "/{}/{}/{}/{}/{}/{}/{}/{}/**"),
        ] {
            assert_eq!(Generalised::of(path).as_str(), told, "{path}");
        }
        let long = format!("/{}", "abcdefghijklmnopqrst/".repeat(20));
        let told = Generalised::of(&long);
        assert!(told.as_str().len() <= MAX && told.as_str().ends_with("t/**"), "{told:?}");
    }
}

//! Where messages begin in the body of a request: gRPC puts five bytes before each, the last four of which say how long
//! it is.

const HEAD_BYTES: usize = 5;

/// How far a body has been looked through.
#[derive(Default)]
pub(super) struct Framing {
    head: [u8; HEAD_BYTES],
    /// So many bytes of the head are there,
    got: usize,
    /// or so many are missing of its message.
    left: usize,
}

/// A message whose head is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Where its head begins in the bytes that complete it,
    pub(super) from: usize,
    /// and where it ends.
    pub(super) to: usize,
    /// How long the message is.
    pub(super) length: usize,
}

impl Framing {
    /// Looks through bytes up to the first message that begins in them; `None` when none does.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<Beginning> {
        let from = self.left.min(bytes.len());
        self.left -= from;
        let missing = &mut self.head[self.got..];
        let part = missing.len().min(bytes.len() - from);
        missing[..part].copy_from_slice(&bytes[from..from + part]);
        self.got += part;
        if self.got < HEAD_BYTES {
            return None;
        }
        self.got = 0;
        let [_, length @ ..] = self.head;
        self.left = u32::from_be_bytes(length) as usize;
        Some(Beginning { from, to: from + part, length: self.left })
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        self.got > 0 || self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of messages of these lengths.
    fn body(lengths: &[usize]) -> Vec<u8> {
        let message = |length: &usize| {
            let head = (*length as u32).to_be_bytes();
            [vec![0], head.to_vec(), vec![7; *length]].concat()
        };
        lengths.iter().flat_map(message).collect()
    }

    #[test]
    fn messages_are_found_however_the_body_is_cut() {
        let lengths = [3, 0, 300, 1, 0, 0, 70_000];
        let body = body(&lengths);
        for cut in [1, 2, 3, 4, 5, 6, 7, 64, 305, 1 << 20] {
            let (mut framing, mut found) = (Framing::default(), Vec::new());
            for bytes in body.chunks(cut) {
                let mut seen = 0;
                while let Some(Beginning { from, to, length }) = framing.next(&bytes[seen..]) {
                    assert!(from < to && to - from <= HEAD_BYTES);
                    seen += to;
                    found.push(length);
                }
            }
            assert_eq!(found, lengths, "cut into {cut}");
            assert!(!framing.is_within());
        }
    }

    #[test]
    fn what_has_begun_is_known_from_the_first_byte_on() {
        let mut framing = Framing::default();
        assert!(!framing.is_within());
        assert_eq!(framing.next(&[0, 0]), None);
        assert!(framing.is_within());
        assert_eq!(framing.next(&[0, 0, 2, 9]), Some(Beginning { from: 0, to: 3, length: 2 }));
        assert_eq!(framing.next(&[9]), None);
        assert!(framing.is_within());
        assert_eq!(framing.next(&[9]), None);
        assert!(!framing.is_within());
    }
}

//! An authority in Huffman's code (RFC 7541, appendix B), as Go writes it: `%` and `/` become characters of as many bits that a host may have.

/// How many symbols have a code of so many bits; codes of one length follow each other, and after the last come longer ones.
const SYMBOLS: [u32; 31] = [
    0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19,
    29, 0, 4,
];

/// Where in a symbol.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    code: u32,
    length: usize,
    /// The first code of this length.
    first: u32,
}

impl Symbols {
    /// Mends the next eight bits.
    pub(super) fn mend(&mut self, byte: &mut u8) {
        for place in (0..8).rev() {
            if self.next(*byte >> place & 1 == 1) {
                *byte |= 1 << place;
            }
        }
    }

    /// The next bit, as it is to be.
    fn next(&mut self, sent: bool) -> bool {
        let begun = (self.length, self.code);
        // `01010.` is a space or `%`, `01011.` is `-` or `.`; `011000` is `/`, `011001` is `3`.
        let bit = sent || matches!(begun, (4, 0b0101) | (5, 0b0_1100));
        let count = |length: usize| SYMBOLS.get(length).copied().unwrap_or_default();
        let first = self.first.wrapping_add(count(self.length)).wrapping_mul(2);
        let code = self.code.wrapping_mul(2) | u32::from(bit);
        let length = self.length + 1;
        *self = match code.wrapping_sub(first) < count(length) || length >= SYMBOLS.len() {
            true => Self::default(),
            false => Self { code, length, first },
        };
        bit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    const CODES: [(char, &str); 14] = [
        ('%', "010101"),
        ('-', "010110"),
        ('.', "010111"),
        ('/', "011000"),
        ('3', "011001"),
        ('2', "00010"),
        ('F', "1100001"),
        ('a', "00011"),
        ('c', "00100"),
        ('k', "1110101"),
        ('o', "00111"),
        ('s', "01000"),
        ('t', "01001"),
        ('{', "111111111111110"),
    ];

    fn coded(text: &str) -> Vec<u8> {
        let code = |c: char| CODES.iter().find(|(known, _)| *known == c).unwrap().1;
        let mut bits: String = text.chars().map(code).collect();
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
        (0..bits.len()).step_by(8).map(byte).collect()
    }

    #[test]
    fn every_code_has_an_end() {
        assert_eq!(SYMBOLS.iter().sum::<u32>(), 257);
        let all: u64 = SYMBOLS
            .iter()
            .enumerate()
            .map(|(length, count)| u64::from(*count) << (30 - length))
            .sum();
        assert_eq!(all, 1 << 30, "the codes fill all there is");
    }

    #[test]
    fn paths_become_hosts_and_hosts_stay() {
        for (sent, told) in [
            ("%2Ft%2Fa.sock", ".2Ft.2Fa.sock"),
            ("/tat/{/a", "3tat3{3a"),
            ("a%", "a."),
            ("a.sock-3", "a.sock-3"),
        ] {
            let mut bytes = coded(sent);
            let mut symbols = Symbols::default();
            bytes.iter_mut().for_each(|byte| symbols.mend(byte));
            assert_eq!(bytes, coded(told), "{sent}");
        }
        // `www.example.com`, as RFC 7541 writes it (appendix C.4.1).
        let known = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let mut bytes = known;
        let mut symbols = Symbols::default();
        bytes.iter_mut().for_each(|byte| symbols.mend(byte));
        assert_eq!(bytes, known);
    }
}

//! The date as HTTP writes it (RFC 9110 5.6.7). The time comes in as an argument; a caller that
//! answers often makes a `Date` once a second and reuses it.

/// An IMF-fixdate, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Date([u8; 29]);

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// The last second of the year 9999: four digits are all there is room for.
const SECS_MAX: u64 = 253_402_300_799;

impl Date {
    /// The date so many seconds after 1970 began.
    pub fn from_unix_secs(secs: u64) -> Date {
        let secs = secs.min(SECS_MAX);
        let (days, clock) = (secs / 86400, secs % 86400);
        // Years are counted from a first of March, so that the leap day ends one; 719,468 days
        // lie between the first of March of year 0 and 1970. An era is 400 years.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 {
            march_month + 2
        } else {
            march_month - 10
        };
        let year = era * 400 + year_of_era + u64::from(month < 2);

        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let name = |names: &[&'static [u8; 3]], at: u64| *names[at as usize];
        let two = |number: u64| [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
        text[0..3].copy_from_slice(&name(&DAYS, days % 7));
        text[5..7].copy_from_slice(&two(day));
        text[8..11].copy_from_slice(&name(&MONTHS, month));
        text[12..14].copy_from_slice(&two(year / 100));
        text[14..16].copy_from_slice(&two(year));
        text[17..19].copy_from_slice(&two(clock / 3600));
        text[20..22].copy_from_slice(&two(clock / 60 % 60));
        text[23..25].copy_from_slice(&two(clock % 60));
        Date(text)
    }

    /// As in the example above.
    pub fn text(&self) -> &[u8; 29] {
        &self.0
    }

    pub(super) fn push_field(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn dates() {
        for (secs, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(Date::from_unix_secs(secs).0, text.as_bytes(), "{secs}");
        }
    }
}

//! Address ranges that are forbidden by default: everything that is not the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 3], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(head[0], head[1], head[2], 0, 0, 0, 0, 0), prefix)
}

const METADATA_OF_AZURE: Ipv4Net = v4(168, 63, 129, 16, 32);

/// From the IANA special-purpose address registries, each with a description.
const FORBIDDEN_V4: [(Ipv4Net, &str); 17] = [
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared by carriers"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 88, 99, 0, 24), "a relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
    (METADATA_OF_AZURE, "for cloud metadata"),
];

const LOOPBACK_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);

const FORBIDDEN_V6: [(Ipv6Net, &str); 10] = [
    (v6([0, 0, 0], 128), "unspecified"),
    (LOOPBACK_V6, "loopback"),
    // A local-use NAT64 prefix, whose embedded address is unknown.
    (v6([0x64, 0xff9b, 1], 48), "translated locally"),
    (v6([0x100, 0, 0], 64), "discarded"),
    (v6([0x2001, 0, 0], 32), "tunnelled"),
    (v6([0x2001, 0xdb8, 0], 32), "for documentation"),
    (v6([0xfc00, 0, 0], 7), "private"),
    (v6([0xfe80, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0], 10), "private"),
    (v6([0xff00, 0, 0], 8), "multicast"),
];

/// Returns why an address is forbidden, as a phrase to follow "is", or `None` for a public address.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            FORBIDDEN_V4.iter().find(|(range, _)| range.contains(&address)).map(|(_, word)| *word)
        }
        IpAddr::V6(address) => {
            let found = FORBIDDEN_V6.iter().find(|(range, _)| range.contains(&address));
            let inner = || forbidden(IpAddr::V4(embedded(address)?));
            found.map(|(_, word)| *word).or_else(inner)
        }
    }
}

/// Returns the IPv4 address embedded in an IPv6 address: mapped, compatible, translated (NAT64,
/// SIIT) or tunnelled (6to4).
pub(super) fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let (high, low) = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => {
            (high, low)
        }
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_open_internet_is_not_forbidden() {
        for open in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1"]
        {
            assert_eq!(forbidden(open.parse().unwrap()), None, "{open}");
        }
        for (address, word) in [
            ("0.0.0.0", "unspecified"),
            ("127.255.255.254", "loopback"),
            ("10.1.2.3", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("100.127.0.1", "shared by carriers"),
            ("169.254.169.254", "link-local"),
            ("168.63.129.16", "for cloud metadata"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
            ("2001:0:1::1", "tunnelled"),
            ("64:ff9b:1::1.1.1.1", "translated locally"),
        ] {
            assert_eq!(forbidden(address.parse().unwrap()), Some(word), "{address}");
        }
    }

    #[test]
    fn an_address_inside_another_is_found() {
        for around in [
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
        ] {
            let address: Ipv6Addr = around.parse().unwrap();
            assert_eq!(embedded(address), Some(Ipv4Addr::new(169, 254, 169, 254)), "{around}");
            assert_eq!(forbidden(address.into()), Some("link-local"), "{around}");
        }
    }
}

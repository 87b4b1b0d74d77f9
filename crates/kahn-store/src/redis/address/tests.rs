//! Tests of the parser of addresses.

use proptest::prelude::*;

use super::*;

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.to_owned(), port }
}

fn parsed(text: &str) -> Address {
    match Address::parse(text) {
        Ok(address) => address,
        Err(error) => panic!("{text}: {error}"),
    }
}

#[track_caller]
fn check_refused(text: &str, expected: AddressError) {
    assert_eq!(Address::parse(text).err(), Some(expected), "{text}");
}

#[test]
fn a_standalone_server_has_a_host_and_perhaps_a_database() {
    let plain = parsed("redis://host");
    assert!(plain.kind == Kind::Standalone && !plain.is_tls && plain.database == 0);
    assert_eq!(plain.nodes, [tcp("host", 6379)]);
    let full = parsed("rediss://kahn:s%40c%2Fret@10.0.0.1:7000/3");
    assert!(full.is_tls && full.database == 3);
    assert_eq!(full.nodes, [tcp("10.0.0.1", 7000)]);
    assert_eq!(full.user.as_deref(), Some("kahn"));
    assert_eq!(full.password.as_deref(), Some("s@c/ret"));
    let socket = parsed("unix:///run/redis.sock");
    assert_eq!(socket.nodes, [Endpoint::Unix("/run/redis.sock".into())]);
}

#[test]
fn a_password_needs_no_user() {
    let address = parsed("redis://:secret@host");
    assert_eq!((address.user, address.password.as_deref()), (None, Some("secret")));
}

#[test]
fn sentinels_are_listed_before_the_name_of_the_master() {
    let address = parsed("redis+sentinel://a,b:1234,[::1]:5/my%20master/2");
    assert_eq!(address.kind, Kind::Sentinel { master: "my master".to_owned() });
    assert_eq!(address.nodes, [tcp("a", 26379), tcp("b", 1234), tcp("::1", 5)]);
    assert_eq!(address.database, 2);
    assert!(parsed("rediss+sentinel://a/m").is_tls);
}

#[test]
fn a_cluster_is_a_list_of_nodes() {
    let address = parsed("redis+cluster://u:p@a:1,b:2/");
    assert_eq!((address.kind, address.database), (Kind::Cluster, 0));
    assert_eq!(address.nodes, [tcp("a", 1), tcp("b", 2)]);
    assert_eq!(address.nodes[0].to_string(), "a:1");
    assert_eq!(tcp("::1", 5).to_string(), "[::1]:5");
}

#[test]
fn what_is_wrong_is_named() {
    let owned = str::to_owned;
    check_refused("host:6379", AddressError::NoScheme);
    check_refused("http://host", AddressError::UnknownScheme(owned("http")));
    check_refused("redis://", AddressError::NoHost);
    check_refused("redis+cluster://a,,b", AddressError::NoHost);
    for (text, shown) in [
        ("host:0", "host"),
        ("host:70000", "host"),
        ("host:x", "host"),
        ("a:1:2", "a"),
        ("[::1", "[::1"),
        ("[x]:1", "[x]:1"),
        ("ho st", "ho st"),
        (":6379", ""),
    ] {
        check_refused(&format!("redis://{text}"), AddressError::Host(owned(shown)));
    }
    check_refused("redis://a,b", AddressError::SeveralHosts);
    check_refused("redis+sentinel://a", AddressError::NoMaster);
    check_refused("redis+sentinel://a//1", AddressError::NoMaster);
    check_refused("redis+sentinel://a/m/x", AddressError::Database(owned("x")));
    check_refused("redis+sentinel://a/m/1/2", AddressError::Trailing(owned("2")));
    check_refused("redis://a/one", AddressError::Database(owned("one")));
    check_refused("redis+cluster://a/1", AddressError::DatabaseInCluster);
    check_refused("redis://a?protocol=resp3", AddressError::Parameters);
    check_refused("unix://relative", AddressError::SocketPath);
    check_refused("redis://u:%4@a", AddressError::Percent("password"));
    check_refused("redis://%ff:p@a", AddressError::Percent("user"));
}

#[test]
fn no_message_contains_a_part_of_a_password() {
    for password in ["hun/ter2", "hun?ter2", "hun#ter2", "hun@ter2", "hunter2%", "hunter2%zz"] {
        let error = Address::parse(&format!("redis://user:{password}@host:1/0")).err().unwrap();
        let text = error.to_string();
        assert!(!text.contains("hun") && !text.contains("ter2"), "{password}: {text}");
    }
    for text in ["redis://user:hunter2", "redis://:hunter2", "redis+sentinel://user:hunter2/m"] {
        let error = Address::parse(text).err().unwrap().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn every_user_password_and_master_can_be_written(
        user in ".+", password in ".*", master in ".+", database in 0_u32..100,
    ) {
        let (user_text, password_text) = (encoded(&user), encoded(&password));
        let master_text = encoded(&master);
        let text = format!(
            "redis+sentinel://{user_text}:{password_text}@a:1,b/{master_text}/{database}"
        );
        let address = parsed(&text);
        prop_assert_eq!(address.user, Some(user));
        prop_assert_eq!(address.password, Some(password));
        prop_assert_eq!(address.kind, Kind::Sentinel { master });
        prop_assert_eq!(address.database, i64::from(database));
    }

    #[test]
    fn any_text_is_an_address_or_an_error(text in ".*", scheme in 0_usize..7) {
        let scheme = SCHEMES.split([',', ' ']).filter(|word| word.len() > 2).nth(scheme);
        for text in [text.clone(), format!("{}://{text}", scheme.unwrap_or("redis"))] {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(!address.nodes.is_empty());
            }
        }
    }
}

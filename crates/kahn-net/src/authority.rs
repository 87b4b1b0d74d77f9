//! A small certificate authority, for trials and tests.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};

/// Clocks that are a bit slow must accept a new certificate.
const BACKDATED_BY: Duration = Duration::hours(1);

/// The reason that no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A name can be neither a DNS name nor an IP address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// The authority was not made by [`Authority::create`].
    #[error("the certificate is not one of an authority that `kahn certs init` has made")]
    ForeignAuthority,
    /// The key belongs to another certificate.
    #[error("the private key is not that of the certificate")]
    WrongKey,
    /// A key or certificate cannot be made or read.
    #[error("{0}")]
    Crypto(#[from] rcgen::Error),
}

/// A certificate and its private key, both in the PEM format.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key. It is a secret.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    /// Omits the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Issued {
    fn new(certificate: &Certificate, key: &KeyPair) -> Self {
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// An authority that issues certificates for the processes of a cluster.
pub struct Authority(Issuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    /// Omits the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Creates an authority with a new key. Its certificate is valid for `days`.
    ///
    /// # Errors
    ///
    /// Returns an error if no key can be made.
    pub fn create(name: &str, days: u32) -> Result<(Self, Issued), AuthorityError> {
        let mut params = params(name, valid_for(days));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let issued = Issued::new(&params.self_signed(&key)?, &key);
        Ok((Self(Issuer::new(params, key)), issued))
    }

    /// Uses an authority that was created before.
    ///
    /// # Errors
    ///
    /// Returns an error if this is not an authority of [`Authority::create`].
    pub fn open(authority: &Issued) -> Result<Self, AuthorityError> {
        let foreign = |_| AuthorityError::ForeignAuthority;
        let certificate =
            CertificateDer::from_pem_slice(authority.certificate.as_bytes()).map_err(foreign)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|_| AuthorityError::ForeignAuthority)?;
        let anchor = roots.roots.first().ok_or(AuthorityError::ForeignAuthority)?;
        let name = only_common_name(&anchor.subject).ok_or(AuthorityError::ForeignAuthority)?;
        let key = KeyPair::from_pem(&authority.key)?;
        if !anchor.subject_public_key_info.ends_with(key.public_key_raw()) {
            return Err(AuthorityError::WrongKey);
        }
        Ok(Self(Issuer::new(params(name, valid_for(1)), key)))
    }

    /// Issues a certificate that is valid for `days`.
    ///
    /// # Errors
    ///
    /// Returns an error if a host cannot be named.
    pub fn issue(&self, name: &str, usage: Usage<'_>, days: u32) -> Result<Issued, AuthorityError> {
        self.issue_during(name, usage, valid_for(days))
    }

    /// Issues a certificate that is valid between two times.
    ///
    /// # Errors
    ///
    /// Returns an error if a host cannot be named.
    pub fn issue_during(
        &self,
        name: &str,
        usage: Usage<'_>,
        validity: (OffsetDateTime, OffsetDateTime),
    ) -> Result<Issued, AuthorityError> {
        let mut params = params(name, validity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Usage::Server(hosts) = usage {
            let names = hosts.iter().map(|host| alternative(host));
            params.subject_alt_names = names.collect::<Result<_, _>>()?;
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Issued::new(&params.signed_by(&key, &self.0)?, &key))
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug)]
pub enum Usage<'a> {
    /// Clients and workers.
    Client,
    /// Coordinators, which are clients of each other, too. The hosts are DNS names or IP addresses.
    Server(&'a [String]),
}

/// Returns the period of validity that begins now.
fn valid_for(days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - BACKDATED_BY, now + Duration::days(i64::from(days)))
}

fn params(name: &str, (from, until): (OffsetDateTime, OffsetDateTime)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (from, until);
    params
}

fn alternative(host: &str) -> Result<SanType, AuthorityError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let invalid = || AuthorityError::Name(host.to_owned());
    // A wildcard stands for one label.
    let name = host.strip_prefix("*.").unwrap_or(host);
    rustls::pki_types::DnsName::try_from(name).map_err(|_| invalid())?;
    host.try_into().map(SanType::DnsName).map_err(|_| invalid())
}

/// Returns the common name if the subject consists of that alone, in the DER that rcgen writes
/// (RFC 5280, section 4.1.2.4).
fn only_common_name(subject: &[u8]) -> Option<&str> {
    const SET: u8 = 0x31;
    const SEQUENCE: u8 = 0x30;
    const UTF8_STRING: u8 = 0x0c;
    /// The object identifier 2.5.4.3.
    const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let attribute = content(content(subject, SET)?, SEQUENCE)?;
    let value = attribute.strip_prefix(&COMMON_NAME)?;
    std::str::from_utf8(content(value, UTF8_STRING)?).ok()
}

/// Returns the content of a single element of this type, shorter than 128 bytes.
fn content(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (&[found, len], rest) = der.split_first_chunk::<2>()?;
    (found == tag && usize::from(len) == rest.len() && len < 0x80).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_can_be_opened_again_and_others_are_refused() {
        let (_, issued) = Authority::create("trial", 10).unwrap();
        let opened = Authority::open(&issued).unwrap();
        let leaf =
            opened.issue("a", Usage::Server(&["localhost".into(), "::1".into()]), 1).unwrap();
        assert!(leaf.certificate.contains("BEGIN CERTIFICATE"));
        let mixed = Issued { key: issued.key, ..leaf.clone() };
        assert!(matches!(Authority::open(&mixed), Err(AuthorityError::WrongKey)));
        let other = Issued { certificate: "no certificate".to_owned(), key: leaf.key };
        assert!(matches!(Authority::open(&other), Err(AuthorityError::ForeignAuthority)));
    }

    #[test]
    fn hosts_that_no_certificate_can_name_are_refused() {
        let (authority, _) = Authority::create("trial", 10).unwrap();
        for host in ["", "a b", "http://a", "*"] {
            let error = authority.issue("a", Usage::Server(&[host.to_owned()]), 1).unwrap_err();
            assert!(matches!(error, AuthorityError::Name(_)), "{host}: {error}");
        }
        authority.issue("a", Usage::Server(&["*.example.com".to_owned()]), 1).unwrap();
    }

    #[test]
    fn keys_are_not_shown() {
        let (authority, issued) = Authority::create("trial", 10).unwrap();
        let shown = format!("{authority:?} {issued:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}

//! The certificates of the cluster.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::network::HOSTS;

/// Names of the API server.
const NAMES: [&str; 4] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
/// The name of KEDA's operator.
const KEDA: &str = "keda-operator.keda.svc.cluster.local";
/// The address of the API server within the cluster, the first of the range of Services.
const SERVICE_IP: &str = "10.96.0.1";

/// Files with certificates and keys.
#[derive(Debug)]
pub(super) struct Certificates(PathBuf);

impl Certificates {
    /// Creates an authority, and the certificates of the API server and an administrator.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let files = Self(dir.to_owned());
        let key = KeyPair::generate()?;
        let mut params = named("kahn-test", None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        std::fs::write(files.file("ca.crt"), params.self_signed(&key)?.pem())?;
        let authority = Issuer::new(params, key);

        files.issue(&authority, "server", named("kube-apiserver", None)?)?;
        let mut keda = named("keda-operator", None)?;
        keda.subject_alt_names.push(SanType::DnsName(KEDA.try_into()?));
        files.issue(&authority, "keda", keda)?;
        // With which the API server shows to the servers of other APIs for whom it asks.
        files.issue(&authority, "front-proxy", named("front-proxy", None)?)?;
        files.issue(&authority, "admin", named("admin", Some("system:masters"))?)?;
        // The key with which tokens of service accounts are signed.
        let accounts = KeyPair::generate()?;
        std::fs::write(files.file("accounts.key"), accounts.serialize_pem())?;
        std::fs::write(files.file("accounts.pub"), accounts.public_key_pem())?;
        Ok(files)
    }

    /// Returns the path of a file, such as `ca.crt` or `admin.key`.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn issue(
        &self,
        authority: &Issuer<'_, KeyPair>,
        name: &str,
        params: CertificateParams,
    ) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, authority)?;
        std::fs::write(self.file(&format!("{name}.crt")), certificate.pem())?;
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

fn named(name: &str, organization: Option<&str>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    let addresses = HOSTS.iter().map(|host| host.ip).chain([SERVICE_IP, "127.0.0.1"]);
    for address in addresses {
        params.subject_alt_names.push(SanType::IpAddress(address.parse::<IpAddr>()?));
    }
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    Ok(params)
}

//! The certificates and keys of a control plane: one authority, alive as long as the files in its folder.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Who a client certificate says it is.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// The name that the API server sees.
    pub name: &'a str,
    /// The group that it belongs to besides the one of all that are authenticated.
    pub group: Option<&'a str>,
}

impl User<'_> {
    /// The name as part of a file's name.
    pub(super) fn file_name(&self) -> String {
        self.name.replace([':', '/'], "-")
    }
}

/// May do everything.
pub const ADMIN: User<'static> = User { name: "admin", group: Some("system:masters") };

/// A certificate and its key, as files and as text.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The authority that the API server and its clients trust, and the key that signs tokens.
#[derive(Debug)]
pub(super) struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the authority, and the key of ServiceAccounts' tokens, in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "sluice-test-authority");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let pki = Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) };
        write(&pki.authority(), &certificate.pem())?;
        let tokens = KeyPair::generate()?;
        write(&pki.token_pair().key, &tokens.serialize_pem())?;
        write(&pki.token_pair().certificate, &tokens.public_key_pem())?;
        Ok(pki)
    }

    /// The authority's certificate.
    pub(super) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// What signs the tokens of ServiceAccounts; its public key is no certificate.
    pub(super) fn token_pair(&self) -> Pair {
        self.pair("service-accounts")
    }

    fn pair(&self, name: &str) -> Pair {
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        Pair { certificate: file("crt"), key: file("key") }
    }

    /// The API server's certificate, good for these names and addresses.
    pub(super) fn server(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Pair> {
        let alternatives = names.iter().map(ToString::to_string);
        let all: Vec<_> = alternatives.chain(addresses.iter().map(ToString::to_string)).collect();
        let params = CertificateParams::new(all)?;
        self.sign("apiserver", params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The certificate of a client.
    pub(super) fn client(&self, user: User<'_>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user.name);
        if let Some(group) = user.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(&user.file_name(), params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = self.pair(name);
        write(&pair.certificate, &certificate.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

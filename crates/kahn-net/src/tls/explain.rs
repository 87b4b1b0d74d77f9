//! Says in plain words why a TLS handshake has failed, and what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::client::ClientTls;

/// Returns the error of TLS that has ended a connection, if it was one.
pub(crate) fn tls_cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Explains an error of a connection to a coordinator, as the rest of a sentence about it.
/// `was_requested` says whether the coordinator has asked for a certificate.
pub(crate) fn explain(error: &Error, tls: &ClientTls, was_requested: bool) -> String {
    match error {
        Error::InvalidCertificate(reason) => certificate(reason, tls),
        Error::InvalidMessage(_) => {
            "does not answer with TLS; write http:// if it is meant to be without".to_owned()
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "does not speak HTTP/2 over TLS; is this the port for health checks?".to_owned()
        }
        Error::AlertReceived(alert) if was_requested => refusal(*alert, tls),
        Error::AlertReceived(alert) => format!("refuses the connection: {alert:?}"),
        other => format!("cannot be used with TLS: {other}"),
    }
}

/// Explains why the certificate of the coordinator is not accepted.
fn certificate(reason: &CertificateError, tls: &ClientTls) -> String {
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &tls.ca_file {
            Some(file) => {
                format!("shows a certificate that no authority in {} has issued", file.display())
            }
            None => "shows a certificate of an authority that this host does not trust; name its \
                     certificate with --ca-file or tls.ca_file"
                .to_owned(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "shows a certificate that has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "shows a certificate that is not valid yet; are the clocks right?".to_owned()
        }
        CertificateError::NotValidForName => "shows a certificate for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("shows a certificate for other names: {}", presented.join(", "))
        }
        other => format!("shows a certificate that cannot be used: {other}"),
    }
}

/// Explains why the coordinator does not accept this side.
fn refusal(alert: AlertDescription, tls: &ClientTls) -> String {
    let Some(file) = &tls.cert_file else {
        return match alert {
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
                "requires a client certificate; name it and its key with --cert-file and \
                 --key-file, or tls.cert_file and tls.key_file"
                    .to_owned()
            }
            other => format!("refuses the connection: {other:?}"),
        };
    };
    let file = file.display();
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("does not know the authority of the client certificate {file}")
        }
        AlertDescription::CertificateExpired => {
            format!("refuses the client certificate {file}: it has expired or is not valid yet")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            format!("refuses the client certificate {file}: {alert:?}")
        }
        other => format!("refuses the connection: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(alert: AlertDescription, has_certificate: bool, was_requested: bool, expected: &str) {
        let cert_file = has_certificate.then(|| "a.pem".into());
        let tls = ClientTls { cert_file, ..ClientTls::default() };
        let text = explain(&Error::AlertReceived(alert), &tls, was_requested);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_client_certificate_is_blamed_only_for_alerts_about_it() {
        use AlertDescription::{
            CertificateExpired, CertificateRequired, InternalError, NoApplicationProtocol,
            UnknownCA,
        };
        check(CertificateRequired, false, true, "requires a client certificate");
        check(UnknownCA, true, true, "the authority of the client certificate a.pem");
        check(CertificateExpired, true, true, "a.pem: it has expired");
        check(InternalError, true, true, "refuses the connection");
        check(UnknownCA, true, false, "refuses the connection");
        check(NoApplicationProtocol, true, true, "does not speak HTTP/2");
    }
}

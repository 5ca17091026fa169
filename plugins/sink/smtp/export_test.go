package smtp

import "crypto/x509"

// Trusting makes a sink that trusts a test's certificates.
func Trusting(roots *x509.CertPool) Sink { return Sink{roots} }

package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// identity is the key pair of this process. It exists only in memory. Peers trust it
// because the table of instances has its fingerprint.
type identity struct {
	certificate tls.Certificate
	fingerprint string
}

func newIdentity(now time.Time) (*identity, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	// The dates are not checked; only the fingerprint counts.
	form := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.AddDate(0, 0, -2), NotAfter: now.AddDate(100, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, &form, &form, public, private)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &identity{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private},
		fingerprint: fingerprintOf(der),
	}, nil
}

func fingerprintOf(certificate []byte) string {
	sum := sha256.Sum256(certificate)
	return hex.EncodeToString(sum[:])
}

// handshake makes the TLS handshake, in which both sides show their certificates and
// agree on the protocol.
func handshake(ctx context.Context, conn *tls.Conn) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != protocolName {
		return fmt.Errorf("the other side speaks %q instead of %s", p, protocolName)
	}
	return nil
}

var errStranger = errors.New("the certificate is not that of a live instance")

// config is the TLS configuration of both sides. allowed checks the fingerprint of the
// other side on every connection, since sessions are not resumed.
func (i *identity) config(allowed func(fingerprint string) bool) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{i.certificate},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // VerifyConnection checks the fingerprint; there is no certificate authority
		SessionTicketsDisabled: true,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocolName},
		// One write of the outbox should be one record.
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 || !allowed(fingerprintOf(s.PeerCertificates[0].Raw)) {
				return errStranger
			}
			return nil
		},
	}
}

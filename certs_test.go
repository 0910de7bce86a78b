package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certsMain is the program "certs" of the scenarios: it makes DIR with ca.pem,
// a certificate "server" for the IPs and DNS names (good for clients too, as etcd's peers
// need), and one "client", each with NAME.pem and NAME-key.pem.
//
// The CA is called by the last part of DIR. The others have no common name: with auth on, etcd takes it for a user's, and refuses to
// serve JSON to who has one. With "named" they have their file's name.
//
//	certs [named] DIR IP|NAME...
func certsMain(args []string) int {
	named := len(args) > 0 && args[0] == "named"
	if named {
		args = args[1:]
	}
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: certs [named] DIR IP|NAME...")
		return 2
	}
	if err := makeCerts(args[0], args[1:], named); err != nil {
		fmt.Fprintln(os.Stderr, "certs:", err)
		return 1
	}
	return 0
}

func makeCerts(dir string, ips []string, named bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: filepath.Base(dir) + " CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := writeCert(dir, "ca", ca, ca, nil)
	if err != nil {
		return err
	}
	leaf := func(serial int64, name string, usage ...x509.ExtKeyUsage) *x509.Certificate {
		if !named {
			name = ""
		}
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage,
		}
	}
	server := leaf(2, "server", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	for _, ip := range append(ips, "127.0.0.1") { // from where etcd dials its peers, whose address the certificate must name
		if address := net.ParseIP(ip); address != nil {
			server.IPAddresses = append(server.IPAddresses, address)
		} else {
			server.DNSNames = append(server.DNSNames, ip)
		}
	}
	if _, err := writeCert(dir, "server", server, ca, caKey); err != nil {
		return err
	}
	_, err = writeCert(dir, "client", leaf(3, "client", x509.ExtKeyUsageClientAuth), ca, caKey)
	return err
}

// writeCert makes a key and a certificate for it; without a signer it signs
// itself.
func writeCert(dir, name string, cert, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	write := func(file, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return key, errors.Join(write(name+".pem", "CERTIFICATE", der), write(name+"-key.pem", "EC PRIVATE KEY", keyDER))
}

// readTLS makes a client's configuration; cert and key may be empty.
func readTLS(ca, cert, key string) (*tls.Config, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	conf.RootCAs.AppendCertsFromPEM(text)
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

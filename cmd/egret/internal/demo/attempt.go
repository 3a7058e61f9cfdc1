// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// attempt is one request that must not work.
type attempt struct {
	as     string // SPIFFE ID
	method string
	url    string
	host   string // forged Host header
	body   string
	want   string // layer/reason
	status int
}

// answer is what the application gets.
type answer struct {
	status   int
	decision string
	body     string
}

// refused makes the attempt and tells what came back.
func (d *Demo) refused(ctx context.Context, a attempt) {
	c, err := d.clientOf(ctx, a.as)
	if err != nil {
		d.say.check(false, "a client for %s: %v", a.as, err)
		return
	}
	defer c.CloseIdleConnections()
	d.say.fact("who", "%s", a.as)
	forged := ""
	if a.host != "" {
		forged = "   Host: " + a.host
	}
	d.say.fact("asks", "%s %s%s", a.method, a.url, forged)
	got, err := d.call(ctx, c, a)
	if err != nil {
		d.say.check(false, "an answer that explains itself: %v", err)
		return
	}
	var p struct{ Title, Detail, Layer, Reason, ID string }
	_ = json.Unmarshal([]byte(got.body), &p)
	d.say.fact("the app gets", "%d %s", got.status, http.StatusText(got.status))
	d.say.fact("", "Egret-Decision: %s", got.decision)
	d.say.fact("", "%s: %s", p.Title, p.Detail)
	d.say.check(got.status == a.status && p.Layer+"/"+p.Reason == a.want, "refused: %s", a.want)
	r, ok := d.recordOf(ctx, p.ID)
	d.say.check(ok && r.Workload == a.as && r.Verdict == "deny", "recorded under the same id, with %s to ask", orNobody(r.Owner))
}

func orNobody(owner string) string {
	if owner == "" {
		return "nobody"
	}
	return owner
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

func (d *Demo) call(ctx context.Context, c *http.Client, a attempt) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, a.method, a.url, strings.NewReader(a.body))
	if err != nil {
		return answer{}, err
	}
	if a.host != "" {
		req.Host = a.host
	}
	if a.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header.Get("Egret-Decision"), string(b)}, nil
}

// clientOf is an HTTP client as that workload would have it: a program of this
// machine for the job, the others with their own X.509-SVID at the mesh listener.
func (d *Demo) clientOf(ctx context.Context, id string) (*http.Client, error) {
	if id == dashboardID {
		return d.localClient(), nil
	}
	svid, err := workloadapi.FetchX509SVID(ctx, workloadapi.WithAddr(d.ids.addr[id]))
	if err != nil {
		return nil, err
	}
	chain, key, err := svid.MarshalRaw()
	if err != nil {
		return nil, err
	}
	signer, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certs, err := x509.ParseCertificates(chain)
	if err != nil {
		return nil, err
	}
	cert := tls.Certificate{PrivateKey: signer}
	for _, c := range certs {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	_, port, _ := strings.Cut(d.node.mesh, ":")
	return d.client("https://localhost:"+port, cert), nil
}

func (d *Demo) localClient() *http.Client { return d.client("http://" + d.node.local) }

func (d *Demo) client(proxy string, certs ...tls.Certificate) *http.Client {
	pool := d.saas.ca.Pool().Clone() // the mesh listener's certificate
	pool.AppendCertsFromPEM(d.node.CABundle())
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		Proxy:           func(*http.Request) (*url.URL, error) { return url.Parse(proxy) },
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs},
	}}
}

// encodePair writes a certificate and its key as PEM.
func encodePair(c *tls.Certificate) (cert, key []byte, err error) {
	if len(c.Certificate) == 0 {
		return nil, nil, errors.New("no certificate")
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// asProgram makes a copy of the test binary a program that does what it is told on its
// standard input, one command a line, and answers each with one line.
const asProgram = "EGRET_TEST_PROGRAM"

// obey knows: dial NETWORK ADDRESS, mkdir PATH, get PROXY URL CAFILE (on a connection of
// its own), again PROXY URL CAFILE (on one that it keeps), many PROXY URL CAFILE COUNT
// FIRSTPORT PORTS, unix PATH (asks the proxy there to be led on), and burst ADDRESS COUNT FIRSTPORT PORTS.
func obey() {
	var held []net.Conn
	var kept *http.Client
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		words := strings.Fields(s.Text())
		var err error
		switch words[0] {
		case "dial":
			var c net.Conn
			if c, err = net.Dial(words[1], words[2]); err == nil {
				held = append(held, c)
			}
		case "get", "again":
			fmt.Println(asked(&kept, words))
			continue
		case "unix":
			fmt.Println(overUnix(words[1]))
			continue
		case "many":
			fmt.Println(many(words[1:]))
			continue
		case "mkdir":
			err = os.Mkdir(words[1], 0o755)
		case "burst":
			err = burst(words[1], number(words[2]), number(words[3]), number(words[4]))
		}
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("ok")
	}
	for _, c := range held {
		_ = c.Close()
	}
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// client goes through a proxy.
func client(proxy, caFile string, dial func() (net.Conn, error)) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	via, err := url.Parse(proxy)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: roots}}
	if dial != nil {
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial() }
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: tr}, nil
}

// asked asks for a URL and returns the status and egret's decision, or the error.
func asked(kept **http.Client, words []string) string {
	c := *kept
	if c == nil || words[0] == "get" {
		var err error
		if c, err = client(words[1], words[3], nil); err != nil {
			return err.Error()
		}
	}
	if words[0] == "again" {
		*kept = c
	} else {
		defer c.CloseIdleConnections()
	}
	resp, err := c.Get(words[2])
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Status + " " + resp.Header.Get("Egret-Decision")
}

// overUnix asks a proxy at a unix socket to be led on, and returns its first line.
func overUnix(path string) string {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if _, err := io.WriteString(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n"); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line) + errorText(err)
}

// many asks on as many connections, from ports of a small range that every program uses,
// and counts the answers: the key that the upstream was shown, or the refusal. Every
// fifth connection asks to be led on and is reset at once, its port free for the next
// program.
func many(words []string) string {
	address := strings.TrimPrefix(words[0], "http://")
	count, first, ports := number(words[3]), number(words[4]), number(words[5])
	c, err := client(words[0], words[2], func() (net.Conn, error) { return dialAny(address, first, ports) })
	if err != nil {
		return err.Error()
	}
	c.Transport.(*http.Transport).DisableKeepAlives = true
	answers := map[string]int{}
	for n := range count {
		if n%5 == 4 {
			answers[resetOne(address, first, ports)]++
			continue
		}
		answers[askedOnce(c, words[1])]++
	}
	line, err := json.Marshal(answers)
	return string(line) + errorText(err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func askedOnce(c *http.Client, target string) string {
	resp, err := c.Get(target)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return err.Error()
	}
	defer resp.Body.Close()
	var seen struct{ Fingerprint string }
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil || resp.StatusCode != http.StatusOK {
		return resp.Status + " " + resp.Header.Get("Egret-Decision") + errorText(err)
	}
	return seen.Fingerprint
}

func resetOne(address string, first, ports int) string {
	c, err := dialAny(address, first, ports)
	if err != nil {
		return err.Error()
	}
	_, _ = io.WriteString(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n")
	_ = c.Close()
	return "reset"
}

// dialAny dials from any free port of a range. Its connections are reset when they are
// closed, which frees the port.
func dialAny(address string, first, ports int) (net.Conn, error) {
	for {
		c, err := dialFrom(address, first+rand.IntN(ports))
		switch {
		case err == nil:
			return c, c.(*net.TCPConn).SetLinger(0)
		case !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ECONNRESET):
			return nil, err
		}
	}
}

// burst makes connections from ports of a small range that every program uses, and says
// on each who it is, which egret must not believe but the test does. Every fifth is
// reset at once, and its port free for the next program.
func burst(address string, count, first, ports int) error {
	for done := 0; done < count; {
		c, err := dialAny(address, first, ports)
		if err != nil {
			return err
		}
		done++
		_, err = fmt.Fprintf(c, "%d\n", os.Geteuid())
		if err == nil && done%5 != 0 {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		_ = c.Close()
		// A connection that is refused is reset; nothing is wrong with that.
		if err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

func dialFrom(address string, port int) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port},
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}), err)
		},
	}
	return d.Dial("tcp4", address)
}

// program is such a process.
type program struct {
	t    *testing.T
	pid  int
	in   io.WriteCloser
	out  *bufio.Reader
	stop func()
}

func run(t *testing.T, uid uint32, group string) *program {
	t.Helper()
	p, err := launch(uid, group)
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	t.Cleanup(p.stop)
	return p
}

func launch(uid uint32, group string) (*program, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir, cmd.Env = "/", []string{asProgram + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL}
	if group != "" {
		fd, err := unix.Open(group, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, err
	}
	return &program{
		pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out),
		stop: func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() },
	}, nil
}

// ask gives it a command and returns its answer.
func (p *program) ask(command ...any) (string, error) {
	if _, err := fmt.Fprintln(p.in, command...); err != nil {
		return "", err
	}
	line, err := p.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (p *program) tell(command string) error {
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return err
	}
	line, err := p.out.ReadString('\n')
	if line != "ok\n" {
		return fmt.Errorf("%s: %q: %w", command, line, err)
	}
	return nil
}

// connect has the program dial, and returns our end.
func (p *program) connect(l net.Listener) net.Conn {
	p.t.Helper()
	if err := p.tell("dial " + l.Addr().Network() + " " + l.Addr().String()); err != nil {
		p.t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// group makes a cgroup for the life of the test.
func group(t *testing.T, name string) string {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(mount, fmt.Sprintf("egret-spire-%d-%s", os.Getpid(), name))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("cannot make a cgroup: %v", err)
		}
		t.Cleanup(func() {
			for range 200 { // its processes have just ended
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("cgroup %s is left", dir)
		})
		return dir
	}
	t.Skip("no cgroup v2")
	return ""
}

func listen(t *testing.T, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "egret-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		address = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if network == "unix" {
		if err := os.Chmod(address, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// resolve does what a listener does with a connection.
func resolve(g *sockopt.Diag, r identity.Resolver, c net.Conn) (identity.Caller, error) {
	f, err := g.PeerFacts(c)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.Resolve(ctx, identity.Peer{Proc: &identity.Process{PID: f.PID, UID: f.UID, Cgroup: f.Cgroup, PIDFD: f.PIDFD()}})
}

func diag(t *testing.T) *sockopt.Diag {
	t.Helper()
	g, err := sockopt.OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

func idOf(c identity.Caller, err error) (spiffeid.ID, error) {
	if err != nil {
		return spiffeid.ID{}, err
	}
	w, err := c.Workload()
	return w.ID, err
}

// known waits until a caller is known, as it is once its entry has reached the agent.
func known(t *testing.T, r identity.Resolver, p *program, l net.Listener, want spiffeid.ID) identity.Caller {
	t.Helper()
	g := diag(t)
	var last error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		c, err := resolve(g, r, p.connect(l))
		id, err := idOf(c, err)
		if err == nil && id != want {
			t.Fatalf("credited to %q, want %q", id, want)
		}
		if err == nil {
			return c
		}
		last = err
	}
	t.Fatalf("not known as %q: %v", want, last)
	return nil
}

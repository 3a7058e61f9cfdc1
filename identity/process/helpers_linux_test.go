// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// asProgram makes a copy of the test binary a program that does what it is told on its
// standard input, one command a line, and answers each with one line.
const asProgram = "EGRET_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		obey(os.Stdin)
		return
	}
	goleak.VerifyTestMain(m)
}

// obey knows: dial NETWORK ADDRESS [PORT], exec FILE, and egret NETWORK ADDRESS, which
// is to identify one caller and to say who it is.
func obey(in io.Reader) {
	var held []net.Conn
	for s := bufio.NewScanner(in); s.Scan(); {
		words := strings.Fields(s.Text())
		var err error
		switch words[0] {
		case "dial":
			var c net.Conn
			if c, err = dialFrom(words[1], words[2], words[3:]...); err == nil {
				held = append(held, c)
			}
		case "egret":
			fmt.Println(identifyOne(words[1], words[2]))
			continue
		case "exec":
			err = syscall.Exec(words[1], words[1:], os.Environ())
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

// identifyOne listens, says so, and returns who the first caller is.
func identifyOne(network, address string) string {
	l, err := net.Listen(network, address)
	if err != nil {
		return err.Error()
	}
	defer l.Close()
	if network == "unix" {
		_ = os.Chmod(address, 0o666)
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	issuer, err1 := embedded.New(embedded.Options{TrustDomain: td})
	groups, err2 := kernel.FindCgroups()
	g, err3 := sockopt.OpenDiag()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err.Error()
	}
	defer g.Close()
	f, err := g.PeerFacts(c)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	r, err := New(Options{Attestor: byUser(issuer), Cgroups: groups, Hybrid: true, TrustDomains: []spiffeid.TrustDomain{td}})
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	caller, err := r.Resolve(context.Background(), identity.Peer{Proc: &identity.Process{PID: f.PID, UID: f.UID, Cgroup: f.Cgroup, PIDFD: f.PIDFD()}})
	if err != nil {
		return err.Error()
	}
	w, err := caller.Workload()
	return fmt.Sprint(w.ID, " ", err)
}

// dialFrom dials, over TCP from a port that may just have been another socket's.
func dialFrom(network, address string, from ...string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		}), err)
	}}
	if len(from) == 1 {
		port, _ := strconv.Atoi(from[0])
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	}
	return d.Dial(network, address)
}

// program is such a process.
type program struct {
	t    *testing.T
	pid  int
	in   io.WriteCloser
	out  *bufio.Reader
	stop func()
}

// as says as whom, and where, a program runs.
type as struct {
	uid, gid uint32
	cgroup   string // path below the mount
	file     string // the program; default: this one
}

func run(t *testing.T, a as) *program {
	t.Helper()
	if a.file == "" {
		a.file = "/proc/self/exe"
	}
	cmd := exec.Command(a.file)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{asProgram + "=1"}, &syscall.SysProcAttr{}
	if a.uid != 0 {
		needRoot(t)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	if a.cgroup != "" {
		fd, err := unix.Open(mount(t)+a.cgroup, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	p.stop = func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(p.stop)
	return p
}

func (p *program) tell(command string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		p.t.Fatal(err)
	}
	if line, err := p.out.ReadString('\n'); line != "ok\n" {
		p.t.Fatalf("%s: %s %v", command, line, err)
	}
}

// connect has the program dial, and returns our end.
func (p *program) connect(l net.Listener, from ...string) net.Conn {
	p.t.Helper()
	p.tell(strings.Join(append([]string{"dial", l.Addr().Network(), l.Addr().String()}, from...), " "))
	c, err := l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of other users")
	}
}

func cgroups(t testing.TB) *kernel.Cgroups {
	t.Helper()
	c, err := kernel.FindCgroups()
	if err != nil {
		t.Skip(err)
	}
	return c
}

func mount(t testing.TB) string {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	t.Skip("no cgroup v2 at its usual places")
	return ""
}

// group makes a cgroup for the life of the test.
func group(t testing.TB, name string) string {
	t.Helper()
	path := fmt.Sprintf("/egret-test-%d-%s", os.Getpid(), name)
	if err := os.Mkdir(mount(t)+path, 0o755); err != nil {
		t.Skipf("cannot make a cgroup: %v", err)
	}
	t.Cleanup(func() {
		for range 100 { // its processes have just ended
			if os.Remove(mount(t)+path) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left", path)
	})
	return path
}

func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "egret")
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

// peer collects the kernel's facts as a listener does.
func peer(t testing.TB, c net.Conn) identity.Peer {
	t.Helper()
	g, err := sockopt.OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	f, err := g.PeerFacts(c)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return identity.Peer{Proc: &identity.Process{PID: f.PID, UID: f.UID, Cgroup: f.Cgroup, PIDFD: f.PIDFD()}}
}

var (
	td    = spiffeid.RequireTrustDomainFromString("acme.example")
	alice = spiffeid.RequireFromString("spiffe://acme.example/alice")
	bob   = spiffeid.RequireFromString("spiffe://acme.example/bob")
)

const (
	aliceUID = 47001
	bobUID   = 47002
)

// fake is an attestor whose answers are set by the test.
type fake struct {
	issuer *embedded.Issuer
	watch  func(ctx context.Context, r Reference, update func([]*x509svid.SVID) error) error
	jwt    func(r Reference, id spiffeid.ID, audience string) (secret.Secret, time.Time, error)
}

func (f *fake) Watch(ctx context.Context, r Reference, update func([]*x509svid.SVID) error) error {
	return f.watch(ctx, r, update)
}

func (f *fake) JWTSVID(_ context.Context, r Reference, id spiffeid.ID, audience string) (secret.Secret, time.Time, error) {
	if f.jwt != nil {
		return f.jwt(r, id, audience)
	}
	token, err := f.issuer.MintJWT(id, audience, time.Minute)
	return token, time.Now().Add(time.Minute), err
}

// newFake answers by uid: alice's is alice, bob's bob.
func newFake(t testing.TB) *fake {
	t.Helper()
	i, err := embedded.New(embedded.Options{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	return byUser(i)
}

func byUser(i *embedded.Issuer) *fake {
	f := &fake{issuer: i}
	f.watch = func(ctx context.Context, r Reference, update func([]*x509svid.SVID) error) error {
		var svids []*x509svid.SVID
		for uid, id := range map[uint32]spiffeid.ID{aliceUID: alice, bobUID: bob} {
			if r.Facts.UID != uid {
				continue
			}
			svid, err := i.MintX509(id, time.Hour)
			if err != nil {
				return err
			}
			svids = append(svids, svid)
		}
		if err := update(svids); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	return f
}

func (f *fake) mint(t testing.TB, ttl time.Duration, ids ...spiffeid.ID) []*x509svid.SVID {
	var out []*x509svid.SVID
	for _, id := range ids {
		svid, err := f.issuer.MintX509(id, ttl)
		if err != nil {
			t.Error(err)
			return nil
		}
		out = append(out, svid)
	}
	return out
}

func resolver(t testing.TB, o Options) *Resolver {
	t.Helper()
	o.Cgroups = cgroups(t)
	if o.TrustDomains == nil {
		o.TrustDomains = []spiffeid.TrustDomain{td}
	}
	o.Hybrid = true
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// resolve resolves a connection and returns its identity.
func resolve(t testing.TB, r *Resolver, p identity.Peer) (identity.Caller, spiffeid.ID, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := r.Resolve(ctx, p)
	if err != nil {
		return nil, spiffeid.ID{}, err
	}
	w, err := c.Workload()
	if err == nil && (w.Evidence != identity.EvidenceProcess || w.Expires.IsZero()) {
		t.Errorf("workload = %+v", w)
	}
	return c, w.ID, err
}

func wantID(t *testing.T, r *Resolver, c net.Conn, want spiffeid.ID) identity.Caller {
	t.Helper()
	caller, got, err := resolve(t, r, peer(t, c))
	if err != nil || got != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
	return caller
}

func wantRefused(t *testing.T, r *Resolver, c net.Conn, want error) {
	t.Helper()
	if _, got, err := resolve(t, r, peer(t, c)); !errors.Is(err, want) {
		t.Errorf("got %q, %v; want %v", got, err, want)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func port(c net.Conn) string {
	return strconv.Itoa(int(netip.MustParseAddrPort(c.RemoteAddr().String()).Port()))
}

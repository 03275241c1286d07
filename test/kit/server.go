package kit

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

// Server is a server or one instance of several. Its address and data outlive its
// processes.
type Server struct {
	// Name is that of the instance, and of the log.
	Name string
	// Binary is the program.
	Binary string
	// Dir is where the program runs and logs. Its data are in the folder Data, Dir if that is "".
	Dir, Data string
	// Listen is where it serves clients: host:port, or unix: and a path.
	Listen string
	// Settings are further variables of its environment.
	Settings []string
	// Wrap is a command to start it under.
	Wrap []string

	*Process // the last one that was started
}

// NewServer is a server with all of its files in dir, at a free address. It has no rate limits.
func NewServer(name, binary, dir string, settings ...string) (*Server, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	listen, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	return &Server{Name: name, Binary: binary, Dir: dir, Listen: listen, Settings: settings}, nil
}

// NewInstances makes servers for a cluster on one database, one for each name, with a folder of its own in dir each.
func NewInstances(binary, dir, database string, names []string, settings ...string) (list []*Server, err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	addresses, err := FreeAddresses(len(names))
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		list = append(list, &Server{
			Name: name, Binary: binary, Dir: dir, Data: filepath.Join(dir, name), Listen: addresses[i],
			Settings: append([]string{"STOA_INSTANCE=" + name, "STOA_DATABASE=" + database, "STOA_TRUSTED_PROXIES=127.0.0.1"}, settings...),
		})
	}
	return list, nil
}

// URL is where clients find a server that listens on TCP.
func (s *Server) URL() string { return "http://" + s.Listen }

// Command is a command of the program with the server's settings.
func (s *Server) Command(args ...string) *exec.Cmd {
	data := s.Data
	if data == "" {
		data = s.Dir
	}
	words := append(append(append([]string{}, s.Wrap...), s.Binary), args...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "STOA_CLIENT_LISTEN="+s.Listen, "STOA_DATA_DIR="+data, "STOA_RATE_LIMITS=off")
	cmd.Env = append(cmd.Env, s.Settings...)
	return cmd
}

// Run runs a command of the program on the server's data, and gives what it prints.
func (s *Server) Run(args ...string) ([]byte, error) {
	out, err := s.Command(args...).CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("stoa %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return out, nil
}

// Launch starts a process and does not wait for it.
func (s *Server) Launch() error {
	if s.Data != "" {
		if err := os.MkdirAll(s.Data, 0o700); err != nil {
			return err
		}
	}
	p, err := Launch(s.Name, s.Dir, s.Command("serve"))
	if err != nil {
		return err
	}
	s.Process = p
	return nil
}

// Start starts a process and waits until it answers clients.
func (s *Server) Start() error {
	if err := s.Launch(); err != nil {
		return err
	}
	return s.AwaitPath(Versions)
}

// AwaitPath waits until the process answers a path with 200.
func (s *Server) AwaitPath(path string) error {
	return s.Await(func() error { return Answers(s.Listen, path) })
}

// HAProxy is HAProxy with a file of deploy/ before some instances.
type HAProxy struct {
	Name, Dir string
	Config    string
	Listen    string
	Instances []string // their addresses
	Settings  []string
	Args      []string
}

// Environ is what the files of deploy/ read.
func (h *HAProxy) Environ() []string {
	env := append([]string{"STOA_BIND=" + h.Listen, "STOA_BALANCER_USER=" + BalancerUser()}, h.Settings...)
	for i, address := range h.Instances {
		env = append(env, fmt.Sprintf("STOA_%d=%s", i+1, strings.Replace(address, "unix:", "unix@", 1)))
	}
	return env
}

// Start starts it and waits until an instance answers through it.
func (h *HAProxy) Start() (*Process, error) {
	config, err := filepath.Abs(h.Config)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("haproxy", append([]string{"-db", "-f", config}, h.Args...)...)
	cmd.Dir, cmd.Env = h.Dir, append(os.Environ(), h.Environ()...)
	p, err := Launch(h.Name, h.Dir, cmd)
	if err != nil {
		return nil, err
	}
	if err := p.Await(func() error { return Answers(h.Listen, Versions) }); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// BalancerUser is the user as whom a balancer runs: that of its package if we are root, else we ourselves.
func BalancerUser() string {
	if me, err := user.Current(); err == nil && me.Uid != "0" {
		return me.Username
	}
	return "haproxy"
}

package pluginhost

import (
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/picloud/picloud/sdk/plugin"
)

// firstUID is where the users of plugin processes begin. A process has the one that its host's thread is called by: ids of
// threads are given once on a machine, and that thread stays until nothing is left of the process.
const firstUID = 200_000

var namespaces = map[string]uintptr{
	layerNet: unix.CLONE_NEWNET, layerPID: unix.CLONE_NEWPID, layerIPC: unix.CLONE_NEWIPC, layerUTS: unix.CLONE_NEWUTS,
}

// steps are what it takes to start a process with some of the layers.
type steps struct {
	has  func(layer string) bool
	dir  string // of the process's socket
	home bool   // the process starts in it, which it may not be able to reach by its path
}

// attributes are the steps that Go takes between fork and exec. They belong to the calling thread.
func (s steps) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // no plugin outlives the host; the kernel forgets it with a change of user, so Go asks for it after
		Setpgid:   true,            // Ctrl-C reaches only us; kill reaches all that a plugin started
	}
	for layer, flag := range namespaces {
		if s.has(layer) {
			a.Cloneflags |= flag
		}
	}
	if s.has(layerMount) {
		a.Unshareflags = unix.CLONE_NEWNS // Go keeps its mounts from the host's namespace then
	}
	if s.has(layerRoot) {
		a.Chroot = s.dir
	}
	if s.has(layerUID) {
		a.Credential = &syscall.Credential{Uid: s.id(), Gid: s.id()}
	}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 && (a.Cloneflags|a.Unshareflags != 0 || a.Chroot != "" || s.has(plugin.LayerThreads)) {
		// Who is nobody else in a namespace of users is entitled to the others.
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
	return a
}

func (s steps) id() uint32 { return firstUID + uint32(unix.Gettid()) }

// prepare makes the folder, and sets what a process has from the thread that starts it. Threads of the child have it from the
// child, so that none of them is forgotten. The thread must be locked, and be of no other use afterwards.
func (s steps) prepare() error {
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return err
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice) // to yield is never forbidden
	// What the host itself was started with may stay open in programs that it starts. Linux before 5.11 cannot help it.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if s.has(layerUID) {
		// The host goes on using what is not its own any more.
		if err := errors.Join(os.Chown(s.dir, int(s.id()), int(s.id())), unix.Access(s.dir, unix.W_OK|unix.X_OK)); err != nil {
			return err
		}
	}
	if s.has(layerCaps) {
		if err := dropPrivileges(); err != nil {
			return fmt.Errorf("drop privileges: %w", err)
		}
	}
	if s.home {
		if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir(s.dir)); err != nil {
			return fmt.Errorf("enter the socket folder: %w", err)
		}
	}
	if s.has(layerRoot) {
		// The program is reached from outside of the process's root, by a relative path. Serve leaves this folder at once.
		if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir("/proc")); err != nil {
			return fmt.Errorf("leave the root folder: %w", err)
		}
	}
	return nil
}

// dropPrivileges sees that no program that the thread starts has any, or gains any. The thread keeps its own.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil // what there may be to gain is out of reach now
	}
	for c := uintptr(0); ; c++ {
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); {
		case errors.Is(err, unix.EINVAL) && c > 0: // there are no more
			return nil
		case err != nil:
			return err
		}
	}
}

// program is the path of the program, and the folder to start it in.
func (s steps) program(f *os.File) (path, dir string) {
	if s.has(layerRoot) {
		return fmt.Sprintf("self/fd/%d", f.Fd()), "" // the thread is in /proc
	}
	if s.home {
		return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), ""
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), "/"
}

// try takes all steps of a start but the last, which is of a program that does not exist.
func (s steps) try() error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and ends with it
		err := s.prepare()
		if err == nil {
			missing, dir := filepath.Join(s.dir, "none"), "/"
			switch {
			case s.has(layerRoot):
				missing, dir = "self/none", ""
			case s.home:
				missing, dir = "./none", ""
			}
			_, err = os.StartProcess(missing, []string{missing}, &os.ProcAttr{Dir: dir, Sys: s.attributes()})
		}
		ended <- errors.Join(err, os.RemoveAll(s.dir))
	}()
	err := <-ended
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if errors.Is(err, syscall.EACCES) && s.has(layerUID) {
		return fmt.Errorf("other users cannot enter %s", filepath.Dir(s.dir))
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return fmt.Errorf("the system refuses it: %w", errno)
	}
	return err
}

// lacking finds the layers that processes of a kind cannot have from their start, and why.
func (h *Host) lacking(f *family) map[string]string {
	lacks := map[string]string{}
	for _, name := range f.never() {
		lacks[name] = "its work is on the network"
	}
	for _, l := range layers {
		if !h.cfg.asked(l.Name) && lacks[l.Name] == "" {
			lacks[l.Name] = "it was not asked for"
		}
	}
	give := func(layer, why string) {
		if why != "" && lacks[layer] == "" {
			lacks[layer] = why
		}
	}
	ordinary := os.Geteuid() != 0
	if ordinary {
		give(layerUID, "only root can give processes users of their own")
	}
	give(layerUID, outOfReach(h.builtin))
	give(layerRoot, needsLibraries(h.builtin))
	has := func(layer string) bool { return lacks[layer] == "" }
	tried := 0
	try := func(has func(string) bool) error {
		tried++
		return steps{has, filepath.Join(h.dir, fmt.Sprintf("try-%s%d", f.name, tried)), f.network}.try()
	}
	if err := try(has); err != nil { // mostly all of them work
		refused := map[string]string{}
		for _, l := range layers {
			if has(l.Name) && (l.Name == plugin.LayerThreads || !slices.Contains(plugin.OwnLayers, l.Name)) {
				alone := func(layer string) bool {
					// Another user finds its folder by a path, unless that is its root.
					return layer == l.Name || l.Name == layerUID && layer == layerRoot && has(layer) && refused[layer] == ""
				}
				if err := try(alone); err != nil {
					refused[l.Name] = err.Error()
				}
			}
		}
		maps.Copy(lacks, refused)
		if err := try(has); err != nil { // not all at one time
			for _, l := range layers {
				if !slices.Contains(plugin.OwnLayers, l.Name) {
					give(l.Name, err.Error())
				}
			}
			give(plugin.LayerThreads, err.Error())
		}
	}
	if !ordinary && !has(layerUID) {
		give(plugin.LayerThreads, "threads of root are not counted: it needs the layer uid")
	}
	return lacks
}

// isolatable says why a program cannot be started with the layers that processes have.
func (f *family) isolatable(program *os.File) error {
	why := ""
	if f.holds(layerUID) {
		why = outOfReach(program)
	}
	if why == "" && f.holds(layerRoot) {
		why = needsLibraries(program)
	}
	if why != "" {
		return errors.New(why)
	}
	return nil
}

// outOfReach says why other users cannot run a program, or "".
func outOfReach(program *os.File) string {
	if info, err := program.Stat(); err == nil && info.Mode()&0o001 == 0 {
		return fmt.Sprintf("other users cannot run %s: chmod o+x", program.Name())
	}
	return ""
}

// needsLibraries says why a program cannot be started where there are no files, or "".
func needsLibraries(program *os.File) string {
	f, err := elf.NewFile(program)
	if err != nil {
		return "" // no program to look into
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "the program is linked dynamically: build it with CGO_ENABLED=0"
		}
	}
	return ""
}

// Package thumbnail makes small images of large ones: JPEG, PNG, GIF and WebP in, JPEG, PNG or GIF out.
//
// It owns the sizes that are made and the bounds of what is decoded. It knows nothing of media IDs, files or requests.
//
// The invariant that matters: the header of an image says what decoding it will take, and that is weighed before a pixel is
// decoded. All images under way together take at most a fixed number of bytes; a single one that needs more is refused.
//
// Nothing of the metadata of an image gets into its thumbnail; the orientation is applied.
//
// Spec: client-server-api#thumbnails
package thumbnail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"github.com/bep/imagemeta"
	"golang.org/x/image/draw"
	"golang.org/x/image/webp"
	"golang.org/x/sync/semaphore"
)

var (
	// ErrNoImage says that the content is no image of a known format, or a broken one.
	ErrNoImage = errors.New("thumbnail: not an image that can be decoded")
	// ErrTooLarge says that decoding the image would take more memory than there is for it.
	ErrTooLarge = errors.New("thumbnail: the image has too many pixels")
	// ErrSmall says that the image is not larger than what was asked for: the original is the answer.
	ErrSmall = errors.New("thumbnail: the image is small enough")
)

// Method is how an image is fitted into a size.
type Method string

// The methods of the specification.
const (
	Scale Method = "scale" // as a whole; one side may be shorter than asked for
	Crop  Method = "crop"  // filled, cut at two sides
)

// sides are the widths and heights that are made. What is asked for is rounded up to one of them, so that an image has
// a bounded number of thumbnails. The sizes of the specification are among them.
var sides = [...]int{32, 48, 64, 96, 128, 160, 192, 240, 256, 320, 400, 480, 512, 600, 640, 800, 960, 1024, 1280, 1600}

// Spec is a thumbnail that is made.
type Spec struct {
	Width, Height int
	Method        Method
	Animated      bool
}

// NewSpec rounds a size that was asked for. ok = false: it is larger than any thumbnail, so the original is the answer.
func NewSpec(width, height int, method Method, animated bool) (s Spec, ok bool) {
	w, okW := roundUp(width)
	h, okH := roundUp(height)
	return Spec{w, h, method, animated}, okW && okH
}

func roundUp(n int) (int, bool) {
	for _, side := range sides {
		if n <= side {
			return side, true
		}
	}
	return 0, false
}

// String is the spec as a name, such as 320x240-scale.
func (s Spec) String() string {
	text := fmt.Sprintf("%dx%d-%s", s.Width, s.Height, s.Method)
	if s.Animated {
		text += "-animated"
	}
	return text
}

// Maker makes thumbnails.
type Maker struct {
	budget int64
	memory *semaphore.Weighted
}

// NewMaker makes a Maker whose images take at most a number of bytes at a time.
func NewMaker(budget int64) *Maker {
	return &Maker{budget: budget, memory: semaphore.NewWeighted(budget)}
}

// Result is a thumbnail.
type Result struct {
	Type  string
	Bytes []byte
}

// Make reads an image and makes a thumbnail. It waits while others take the memory. Errors are ErrNoImage, ErrTooLarge,
// ErrSmall, those of src and that of ctx.
func (m *Maker) Make(ctx context.Context, src io.ReadSeeker, s Spec) (Result, error) {
	head, err := readHeader(src)
	if err != nil {
		return Result{}, err
	}
	if head.turned() {
		head.config.Width, head.config.Height = head.config.Height, head.config.Width
	}
	width, height := head.config.Width, head.config.Height
	if width <= s.Width && height <= s.Height {
		return Result{}, ErrSmall
	}
	animated := s.Animated && head.format == "gif" && head.frames > 1
	weight := head.weight(animated)
	if animated && weight > m.budget {
		animated = false
		weight = head.weight(false)
	}
	if weight > m.budget {
		return Result{}, ErrTooLarge
	}
	if err := m.memory.Acquire(ctx, weight); err != nil {
		return Result{}, err
	}
	defer m.memory.Release(weight)
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return Result{}, err
	}
	if animated {
		return makeAnimated(src, s)
	}
	img, err := head.decode(src)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	return encode(turn(fit(img, s, head.turned()), head.orientation), head.format)
}

// Picture is what an image is like when it is shown.
type Picture struct {
	Type          string
	Width, Height int
}

// Inspect reads the header of an image and decodes nothing. Errors are ErrNoImage, ErrTooLarge and those of src.
func (m *Maker) Inspect(src io.ReadSeeker) (Picture, error) {
	head, err := readHeader(src)
	if err != nil {
		return Picture{}, err
	}
	if head.weight(false) > m.budget {
		return Picture{}, ErrTooLarge
	}
	p := Picture{"image/" + head.format, head.config.Width, head.config.Height}
	if head.turned() {
		p.Width, p.Height = p.Height, p.Width
	}
	return p, nil
}

// header is what the beginning of an image says.
type header struct {
	format      string // jpeg, png, gif or webp
	config      image.Config
	orientation int // of EXIF: 1 to 8
	frames      int // of a GIF; 1 otherwise
}

// turned says that the orientation swaps width and height.
func (h *header) turned() bool { return h.orientation >= 5 }

// weight is the memory that decoding takes at most, in bytes.
func (h *header) weight(animated bool) int64 {
	pixels := int64(h.config.Width) * int64(h.config.Height)
	switch h.format {
	case "jpeg":
		return 8 * pixels // the samples, and the coefficients of a progressive one
	case "png":
		switch h.config.ColorModel {
		case color.NRGBA64Model, color.RGBA64Model:
			return 12 * pixels
		}
		return 6 * pixels // an interlaced one is put together from parts
	case "gif":
		if animated {
			return 2*int64(h.frames)*pixels + 12*pixels // all frames twice, and the picture that they are drawn on
		}
		return pixels
	default:
		return 6 * pixels
	}
}

func (h *header) decode(src io.Reader) (image.Image, error) {
	switch h.format {
	case "jpeg":
		return jpeg.Decode(src)
	case "png":
		return png.Decode(src)
	case "gif":
		return gif.Decode(src)
	default:
		return webp.Decode(src)
	}
}

// maxSide bounds the width and height of an image whose header is believed at all.
const maxSide = 1 << 16

// readHeader finds the format by the content, whatever the upload said.
func readHeader(src io.ReadSeeker) (*header, error) {
	var magic [12]byte
	if _, err := io.ReadFull(src, magic[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
			return nil, ErrNoImage
		}
		return nil, err
	}
	h := &header{orientation: 1, frames: 1}
	var configOf func(io.Reader) (image.Config, error)
	meta := imagemeta.JPEG
	switch {
	case bytes.HasPrefix(magic[:], []byte("\xff\xd8\xff")):
		h.format, configOf = "jpeg", jpeg.DecodeConfig
	case bytes.HasPrefix(magic[:], []byte("\x89PNG\r\n\x1a\n")):
		h.format, configOf, meta = "png", png.DecodeConfig, imagemeta.PNG
	case bytes.HasPrefix(magic[:], []byte("GIF8")):
		h.format, configOf = "gif", gif.DecodeConfig
	case string(magic[:4]) == "RIFF" && string(magic[8:]) == "WEBP":
		h.format, configOf, meta = "webp", webp.DecodeConfig, imagemeta.WebP
	default:
		return nil, ErrNoImage
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var err error
	if h.config, err = configOf(src); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoImage, err)
	}
	if w, ht := h.config.Width, h.config.Height; w <= 0 || ht <= 0 {
		return nil, ErrNoImage
	} else if w > maxSide || ht > maxSide {
		return nil, ErrTooLarge
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if h.format == "gif" {
		h.frames, err = countFrames(src)
		return h, err
	}
	h.orientation = orientation(src, meta)
	return h, nil
}

// orientation reads the EXIF tag; 1, as it is, if there is none or it can't be read.
func orientation(src io.ReadSeeker, format imagemeta.ImageFormat) int {
	found := 1
	// Metadata that can't be read turns nothing, so an error is of no interest.
	_, _ = imagemeta.Decode(imagemeta.Options{
		R: src, ImageFormat: format, Sources: imagemeta.EXIF,
		ShouldHandleTag: func(tag imagemeta.TagInfo) bool { return tag.Tag == "Orientation" },
		HandleTag: func(tag imagemeta.TagInfo) error {
			if n, ok := tag.Value.(uint16); ok && n >= 1 && n <= 8 {
				found = int(n)
			}
			return imagemeta.ErrStopWalking
		},
	})
	return found
}

// target is the size of the thumbnail and the part of an image of w × h that it shows.
func (s Spec) target(w, h int) (size image.Point, part image.Rectangle) {
	part = image.Rect(0, 0, w, h)
	if s.Method == Scale {
		if w*s.Height > h*s.Width { // wider than the box
			return image.Pt(s.Width, max(1, h*s.Width/w)), part
		}
		return image.Pt(max(1, w*s.Height/h), s.Height), part
	}
	// The largest part with the proportions of the box, in the middle.
	if w*s.Height > h*s.Width {
		length := max(1, h*s.Width/s.Height)
		part = image.Rect((w-length)/2, 0, (w-length)/2+length, h)
	} else {
		length := max(1, w*s.Height/s.Width)
		part = image.Rect(0, (h-length)/2, w, (h-length)/2+length)
	}
	if part.Dx() < s.Width { // never scaled up
		return part.Size(), part
	}
	return image.Pt(s.Width, s.Height), part
}

// fit scales an image. Turned says that its sides are swapped afterwards.
func fit(img image.Image, s Spec, turned bool) image.Image {
	if turned {
		s.Width, s.Height = s.Height, s.Width
	}
	size, part := s.target(img.Bounds().Dx(), img.Bounds().Dy())
	part = part.Add(img.Bounds().Min)
	// Averages of whole pixels cost far less than a filter over all of them.
	if k := min(part.Dx()/size.X, part.Dy()/size.Y) / 2; k > 1 {
		img, part = reduce(img, part, k)
	}
	dst := image.NewNRGBA(image.Rectangle{Max: size})
	draw.CatmullRom.Scale(dst, dst.Bounds(), img, part, draw.Src, nil)
	return dst
}

// turn applies an EXIF orientation.
func turn(img image.Image, orientation int) image.Image {
	if orientation == 1 {
		return img
	}
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	size := b.Size()
	if orientation >= 5 {
		size.X, size.Y = h, w
	}
	dst := image.NewNRGBA(image.Rectangle{Max: size})
	for y := range h {
		for x := range w {
			var to image.Point
			switch orientation {
			case 2:
				to = image.Pt(w-1-x, y)
			case 3:
				to = image.Pt(w-1-x, h-1-y)
			case 4:
				to = image.Pt(x, h-1-y)
			case 5:
				to = image.Pt(y, x)
			case 6:
				to = image.Pt(h-1-y, x)
			case 7:
				to = image.Pt(h-1-y, w-1-x)
			default:
				to = image.Pt(y, w-1-x)
			}
			dst.Set(to.X, to.Y, img.At(b.Min.X+x, b.Min.Y+y))
		}
	}
	return dst
}

const jpegQuality = 82

func encode(img image.Image, format string) (Result, error) {
	var out bytes.Buffer
	opaque, knows := img.(interface{ Opaque() bool })
	if format == "jpeg" || format == "webp" && knows && opaque.Opaque() {
		err := jpeg.Encode(&out, img, &jpeg.Options{Quality: jpegQuality})
		return Result{"image/jpeg", out.Bytes()}, err
	}
	err := png.Encode(&out, img)
	return Result{"image/png", out.Bytes()}, err
}

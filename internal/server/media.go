package server

import (
	"fmt"
	"path/filepath"
	"time"

	"stoa/internal/blob"
	"stoa/internal/config"
	"stoa/internal/httpkit"
	"stoa/internal/media"
	"stoa/internal/mediaapi"
	"stoa/internal/outbound"
	"stoa/internal/preview"
	"stoa/internal/store"
	"stoa/internal/store/mediadb"
)

const (
	// mostPixels bounds the memory of images that are being decoded for thumbnails: two with 16 megapixels.
	mostPixels = 256 << 20
	// pixelsPart is the part of the process's memory that they may use if that is less.
	pixelsPart = 4
)

func newMedia(opt Options, st *store.Store) (*media.Media, error) {
	cfg := opt.Config
	folder := cfg.MediaFolder
	if folder == "" {
		folder = filepath.Join(cfg.DataDir, "media")
		if st.Shared() && cfg.MediaBucket == "" {
			opt.Log.Warn("uploads are kept in this instance's data directory, where other instances can't read them; with several instances, "+
				"set media_bucket, or media_folder to a folder that all of them mount", "folder", folder)
		}
	}
	m := media.Options{
		Store: st, ServerName: cfg.ServerName, Folder: folder, MaxUpload: int64(cfg.MediaMaxUpload),
		DailyUploads: int64(cfg.MediaDailyUploads), ThumbnailMemory: shareOfMemory(mostPixels, pixelsPart), Log: opt.Log,
	}
	m.Retention = map[mediadb.Class]media.Retention{
		mediadb.ClassLocal: {Age: time.Duration(cfg.MediaLocalMaxAge), Unused: time.Duration(cfg.MediaLocalMaxUnused)},
	}
	if cfg.RateLimits != config.LimitsOn {
		m.DailyUploads = 0
	}
	if cfg.MediaBucket != "" {
		bucket, err := blob.NewBucket(blob.BucketOptions{
			URL: cfg.MediaBucket, Region: cfg.MediaBucketRegion, AccessKey: cfg.MediaBucketAccessKey, Secret: cfg.MediaBucketSecretKey.Reveal(),
		})
		if err != nil {
			return nil, err
		}
		m.Bucket = bucket
	}
	if opt.Media != nil {
		opt.Media(&m)
	}
	if cfg.MediaScanner != "" {
		scanner, err := media.NewScanner(cfg.MediaScanner)
		if err != nil {
			return nil, fmt.Errorf("media_scanner: %w", err)
		}
		m.Scanner = scanner
	}
	return media.New(m)
}

func (srv *Server) newPreviews(p parts) *preview.Previews {
	cfg := srv.opt.Config
	return preview.New(preview.Options{
		Store: srv.services.Store, Images: p.media, Limits: p.limits, Outbound: outbound.Options{AllowPrivate: cfg.FederationAllowPrivate},
		ServerName: cfg.ServerName.String(), Allow: cfg.URLPreviewAllow, Block: cfg.URLPreviewBlock, Log: srv.opt.Log,
	})
}

func (srv *Server) mediaRoutes(p parts) []httpkit.Route {
	opt := mediaapi.Options{Auth: p.callers, Media: p.media, Freeze: srv.opt.Config.MediaFreeze.Time}
	if srv.opt.Config.URLPreviews {
		opt.Previews = p.previews
	}
	return mediaapi.New(opt).Routes()
}

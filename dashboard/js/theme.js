// Runs before the first paint, so that a chosen theme does not flash.
(function () {
    'use strict';

    const root = document.documentElement;
    let theme = 'auto';

    try {
        theme = localStorage.getItem('ngx-llm-theme') || 'auto';
    } catch {
        // storage is off: the system's theme
    }

    if (theme === 'light' || theme === 'dark') {
        root.dataset.theme = theme;
    }
})();
